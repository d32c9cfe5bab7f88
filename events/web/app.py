"""The web application: routes to pages and their JSON endpoints, templates, and pages for errors.

Guarantees:
- Only GET and HEAD are answered.
- Pages are made in threads, so that the event loop never waits for a disk.
- Templates escape everything; an error page shows one sentence and no traceback.
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
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest, to_json
from events.web.view.viewer import Viewer

HERE = Path(__file__).parent


def make_app(
    viewer: Viewer, *, hosts: Collection[str] | None = None, token: str | None = None, cookie: str = "gasp"
) -> Starlette:
    """The application that shows the viewer's runs; `events.web.security.RequestGuard` explains hosts, token and cookie."""
    routes: list[BaseRoute] = []
    for path, make in PAGES.items():
        # First the JSON endpoint: the last path parameter of the page would match `.json` as well.
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
    def respond(request: Request) -> Response:
        page_request = _page_request(request)
        if as_json and page_request.run_or_none:
            # Nobody fetches it again when more has been read.
            page_request.run.summary()
        page = make(page_request)
        return _json(to_json(page.model)) if as_json else _html(request, page, page_request)

    return respond


def _page_request(request: Request) -> PageRequest:
    viewer: Viewer = request.app.state.viewer
    params = {name: str(value) for name, value in request.path_params.items()}
    run = viewer.run(params["run"]) if "run" in params else None
    address = request.url.path.removesuffix(".json")
    return PageRequest(viewer, run, params, request.query_params, address, run is not None and run.reading)


def _html(request: Request, page: Page, page_request: PageRequest, status: int = 200) -> Response:
    template = request.app.state.templates.get_template(page.template)
    text = template.render(
        model=page.model,
        title=page.title,
        request=page_request,
        run=page_request.run_or_none,
        link=page_request.link,
        here=page_request.here,
    )
    # Lone surrogates that `clean` lets through must not break the page.
    return Response(text.encode("utf-8", "replace"), status, media_type="text/html; charset=utf-8")


def _json(model: object, status: int = 200) -> Response:
    return Response(json.dumps(model), status, media_type="application/json")


def _error(request: Request, status: int, sentence: str) -> Response:
    if request.url.path.endswith(".json"):
        return _json({"error": sentence}, status)
    page_request = PageRequest(request.app.state.viewer, None, {}, request.query_params, request.url.path)
    return _html(request, Page("error.html", "error", {"status": status, "sentence": sentence}), page_request, status)


def _gasp_error(request: Request, error: Exception) -> Response:
    sentence = safe_message(str(error))
    if isinstance(error, LogCorrupt):
        sentence = f"{sentence} `gasp log verify` says where the log is damaged."
    status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, BadInput) else 500
    return _error(request, status, sentence)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        response = _error(request, 405, "This viewer only reads: it answers GET and HEAD alone.")
        response.headers.update(error.headers or {})
        return response
    return _error(request, error.status_code, "There is no such page; begin at the list of runs.")


def _server_error(request: Request, _: Exception) -> Response:
    return _error(request, 500, "This page failed, which is a fault of the viewer; its terminal says more.")
