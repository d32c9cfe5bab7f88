"""Drives the distribution's Chromium at the real viewer: a server, a browser, pages that are watched, a crawl of all of them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    Response,
    Route,
    expect,
    sync_playwright,
)

from tests.support.viewer_client import route_of

AUDIT_SCRIPT = (Path(__file__).parent / "browser.js").read_text()
LINKS_SCRIPT = """[...document.querySelectorAll("a[href]")]
    .map((one) => new URL(one.getAttribute("href"), location.href)).map((to) => to.pathname + to.search)"""
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# A machine may be busy with something else; what is there in time waits no longer.
expect.set_options(timeout=60_000)
WINDOW = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


def find_chromium() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A browser without a window. While it lives nothing else in this thread can run an event loop."""
    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])) as browser,
    ):
        yield browser


@contextmanager
def viewer_server(*places: Path) -> Iterator[str]:
    """`python -m events.web`, as a person starts it; gives its address."""
    command = [sys.executable, "-m", "events.web", *map(str, places), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield server.stdout.readline().strip().rstrip("/")
        finally:
            server.send_signal(signal.SIGINT)


def wait_for_index(address: str, slug: str) -> None:
    """Wait until the viewer has read and indexed the run to its end; the stream says when it got further."""
    httpx.get(f"{address}/runs/{slug}/goalposts").raise_for_status()
    with httpx.stream("GET", f"{address}/runs/{slug}/live", timeout=60) as moves:
        for _ in moves.iter_lines():
            run = next(run for run in httpx.get(f"{address}/index.json").json()["runs"] if run["slug"] == slug)
            if run["position"] == run["head"]:
                return


@dataclass
class BrowserMonitor:
    """What goes wrong in a browser's pages, which nobody would see."""

    address: str
    problems: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    """Every address that was asked for."""

    def context(self, browser: Browser, **options: object) -> BrowserContext:
        """A fresh profile whose pages are watched, and cannot leave."""
        context = browser.new_context(base_url=self.address, **{"viewport": WINDOW, **options})  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        context.route(lambda url: not url.startswith((f"{self.address}/", "data:")), self._outside)
        context.on("request", lambda request: self.asked.add(request.url))
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)
        context.on("console", self._said)
        context.on("dialog", self._opened)
        context.on("weberror", lambda error: self.problems.append(f"error: {error.error}"))
        return context

    def _outside(self, route: Route) -> None:
        self.problems.append(f"outside: {route.request.url}")
        route.abort()

    def _failed(self, request: Request) -> None:
        # Going on to another page breaks off what the old one was still asking for.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _opened(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@dataclass
class VisitedPage:
    address: str
    kind: str
    text: str
    pwned: bool
    complaints: dict[str, list[str]]


def crawl_pages(page: Page, pictures: Path | None, of: str, most: int = 1) -> Iterator[VisitedPage]:
    """Every page that links lead to from the start page; so many of a kind and run at most, with queries and without.

    Where a folder for pictures is given, they are taken of one page of a kind, of the named run.
    """
    waiting, seen, taken, counts = ["/"], set[str](), set[str](), dict[object, int]()
    while waiting:
        address = waiting.pop(0)
        parts = urlsplit(address)
        kind = route_of(parts.path)
        group = kind, *parts.path.split("/")[2:3], bool(parts.query)
        if address in seen or kind is None or counts.get(group, 0) >= most:
            continue
        seen.add(address)
        counts[group] = counts.get(group, 0) + 1
        page.goto(address)
        waiting += page.evaluate(LINKS_SCRIPT)
        yield VisitedPage(address, kind, page.inner_text("body"), page.evaluate("'pwned' in window"), audit(page))
        if pictures and kind not in taken and (parts.path.startswith(f"/runs/{of}") or "{run}" not in kind):
            taken.add(kind)
            take_screenshots(page, pictures, re.sub(r"\W+", "-", kind).strip("-") or "runs")


def audit(page: Page) -> dict[str, list[str]]:
    """Complaints by what was looked for; everything that is folded away is opened for it."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    problems = {"light": page.evaluate(AUDIT_SCRIPT, "pale"), "mute": page.evaluate(AUDIT_SCRIPT, "mute")}
    page.keyboard.press("Tab")
    problems["focus"] = page.evaluate(AUDIT_SCRIPT, "unfocused")
    page.emulate_media(color_scheme="dark")
    problems["dark"] = page.evaluate(AUDIT_SCRIPT, "pale")
    problems["dark focus"] = page.evaluate(AUDIT_SCRIPT, "unfocused")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    problems["phone"] = page.evaluate(AUDIT_SCRIPT, "wide")
    page.set_viewport_size(WINDOW)  # type: ignore[arg-type]
    return problems


def take_screenshots(page: Page, folder: Path, name: str) -> None:
    """Pictures of a page in light, in dark and on a phone, for a person to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    page.reload()
    page.screenshot(path=folder / f"{name}-light.png", full_page=True)
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=folder / f"{name}-dark.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.screenshot(path=folder / f"{name}-phone.png", full_page=True)
    page.set_viewport_size(WINDOW)  # type: ignore[arg-type]
