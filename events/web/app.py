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
from events.text.secrets import sentence
from events.web.pages import PAGES, MakePage
from events.web.rendering.template_filters import FILTERS, GLOBALS
from events.web.security import Guard
from events.web.server_sent_events import all_moves, run_moves
from events.web.view.not_there import NotThere
from events.web.view.page import Asked, Page, plain
from events.web.view.viewer import Viewer

HERE = Path(__file__).parent


def make_app(
    viewer: Viewer, *, hosts: Collection[str] | None = None, token: str | None = None, cookie: str = "gasp"
) -> Starlette:
    """The application that shows the viewer's runs; see `events.web.security.Guard` for who is let in."""
    routes: list[BaseRoute] = []
    for path, make in PAGES.items():
        # A twin first: a page's last part would take its ending for its own.
        routes.append(Route("/index.json" if path == "/" else f"{path}.json", _endpoint(make, twin=True)))
        routes.append(Route(path, _endpoint(make, twin=False)))
    live = [Route("/live", all_moves), Route("/runs/{run}/live", run_moves)]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    app = Starlette(
        routes=[static, *live, *routes],
        middleware=[Middleware(Guard, hosts=hosts, token=token, cookie=cookie)],
        exception_handlers={HTTPException: _wrong_address, GaspError: _refused, Exception: _failed},
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


def _endpoint(make: MakePage, *, twin: bool) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        asked = _asked(request, twin=twin)
        page = make(asked)
        return _json(plain(page.model)) if twin else _html(request, page, asked)

    return answer


def _asked(request: Request, *, twin: bool = False) -> Asked:
    viewer: Viewer = request.app.state.viewer
    path = {name: str(value) for name, value in request.path_params.items()}
    seen = viewer.run(path["run"]) if "run" in path else None
    place = request.url.path.removesuffix(".json") if twin else request.url.path
    return Asked(viewer, seen, path, request.query_params, place)


def _html(request: Request, page: Page, asked: Asked, status: int = 200) -> Response:
    template = request.app.state.templates.get_template(page.template)
    text = template.render(model=page.model, title=page.title, asked=asked, run=asked.seen, link=asked.link, here=asked.here)
    # Halves of surrogate pairs that slipped through `clean` must not break the page.
    return Response(text.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")


def _json(model: object, status: int = 200) -> Response:
    return Response(json.dumps(model), status, media_type="application/json")


def _error(request: Request, status: int, said: str) -> Response:
    if request.url.path.endswith(".json"):
        return _json({"error": said}, status)
    asked = Asked(request.app.state.viewer, None, {}, request.query_params, request.url.path)
    return _html(request, Page("error.html", "error", {"status": status, "sentence": said}), asked, status)


def _refused(request: Request, error: Exception) -> Response:
    said = sentence(str(error))
    match error:
        case NotThere():
            return _error(request, 404, said)
        case BadInput():
            return _error(request, 400, said)
        case LogCorrupt():
            return _error(request, 500, f"{said}; python -m events verify says where the log is damaged")
    return _error(request, 500, said)


def _wrong_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        answer = _error(request, 405, "this viewer only reads: GET and HEAD are all that it answers")
        answer.headers.update(error.headers or {})
        return answer
    return _error(request, error.status_code, "there is no such page; begin at the list of runs")


def _failed(request: Request, _: Exception) -> Response:
    return _error(request, 500, "this page failed, which is a fault of the viewer; its terminal says more")
