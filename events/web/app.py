"""The web application: routes to pages and their `.json` twins, templates, errors as pages of one sentence.

Law: only GET and HEAD are answered. Pages are made in threads, the event loop never waits for a disk. Templates escape
everything; an error of ours is a sentence, and of anything else only the terminal learns more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from events.facts.errors import BadInput, GaspError, LogCorrupt
from events.text.secrets import safe_message
from events.web.pages import PAGES, MakePage
from events.web.rendering.template_filters import FILTERS, GLOBALS
from events.web.security import RequestGuard
from events.web.server_sent_events import all_runs_stream, run_stream
from events.web.view.not_there import NotFound
from events.web.view.page import Page, PageRequest, to_json
from events.web.view.viewer import Viewer

HERE = Path(__file__).parent


def make_app(
    viewer: Viewer, *, hosts: Collection[str] | None = None, token: str | None = None, cookie: str = "gasp"
) -> Starlette:
    """The application that shows the viewer's runs; see `events.web.security.RequestGuard` for who is let in."""
    routes: list[BaseRoute] = []
    for path, make in PAGES.items():
        # A twin first: a page's last part would take its ending for its own.
        routes.append(Route("/index.json" if path == "/" else f"{path}.json", _endpoint(make, as_json=True)))
        routes.append(Route(path, _endpoint(make, as_json=False)))
    live = [Route("/live", all_runs_stream), Route("/runs/{run}/live", run_stream)]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    app = Starlette(
        routes=[static, *live, *routes],
        middleware=[Middleware(RequestGuard, hosts=hosts, token=token, cookie=cookie)],
        exception_handlers={HTTPException: _http_error, GaspError: _gasp_error, Exception: _server_error},
    )
    app.router.redirect_slashes = False
    app.state.viewer = viewer
    app.state.templates = _templates()
    return app


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(FILTERS)
    templates.globals.update(GLOBALS)
    return templates


def _endpoint(make: MakePage, *, as_json: bool) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        asked = _page_request(request, as_json=as_json)
        page = make(asked)
        return _json(to_json(page.model)) if as_json else _html(request, page, asked)

    return answer


def _page_request(request: Request, *, as_json: bool = False) -> PageRequest:
    viewer: Viewer = request.app.state.viewer
    path = {name: str(value) for name, value in request.path_params.items()}
    seen = viewer.run(path["run"]) if "run" in path else None
    place = request.url.path.removesuffix(".json") if as_json else request.url.path
    return PageRequest(viewer, seen, path, request.query_params, place)


def _html(request: Request, page: Page, asked: PageRequest, status: int = 200) -> Response:
    template = request.app.state.templates.get_template(page.template)
    text = template.render(model=page.model, title=page.title, asked=asked, run=asked.seen, link=asked.link, here=asked.here)
    # Halves of surrogate pairs that slipped through `clean` must not break the page.
    return Response(text.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")


def _json(model: object, status: int = 200) -> Response:
    return Response(json.dumps(model), status, media_type="application/json")


def _error(request: Request, status: int, said: str) -> Response:
    if request.url.path.endswith(".json"):
        return _json({"error": said}, status)
    asked = PageRequest(request.app.state.viewer, None, {}, request.query_params, request.url.path)
    return _html(request, Page("error.html", "error", {"status": status, "sentence": said}), asked, status)


def _gasp_error(request: Request, error: Exception) -> Response:
    said = safe_message(str(error))
    match error:
        case NotFound():
            return _error(request, 404, said)
        case BadInput():
            return _error(request, 400, said)
        case LogCorrupt():
            return _error(request, 500, f"{said}; python -m events verify says where the log is damaged")
    return _error(request, 500, said)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        answer = _error(request, 405, "this viewer only reads: GET and HEAD are all that it answers")
        answer.headers.update(error.headers or {})
        return answer
    return _error(request, error.status_code, "there is no such page; begin at the list of runs")


def _server_error(request: Request, _: Exception) -> Response:
    return _error(request, 500, "this page failed, which is a fault of the viewer; its terminal says more")
