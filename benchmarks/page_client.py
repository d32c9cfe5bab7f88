"""A viewer in a process of its own, a client that times its pages, and one address of every kind of page.

Pages are found by links from the start page. What is timed is the arrival of the response's head.
"""

from __future__ import annotations

import html
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from events.facts.errors import GaspError

_LINK = re.compile(r'\bhref="([^"]+)"')
INDEX_TIMEOUT_S = 7200.0
"""Seconds that a viewer may take to index a log."""
SEARCHES = {
    "words": "reverse list",
    "nothing found": "unheardof",
    "fields": "kind:lemma accepted:yes passrate<0.5",
    "a rare verdict": "verdict:timeout axis:io passrate<0.2",
    "a word, and a field that is rare": "solve tokens>10000",
    "all rows, few found": "passrate<0.2",
    "all rows of a verdict, few found": "verdict:passed kind:goalpost",
    "all rows, nothing found": "tokens>10000",
}
"""Search queries by what they test."""


class PageResponse(NamedTuple):
    """A response."""

    first_ms: float
    """Milliseconds until its head arrived."""
    size: int


class PageClient:
    """Requests one page after the other, each over a connection of its own."""

    def __init__(self, address: str) -> None:
        self._at = urlsplit(address).netloc

    def get(self, path: str) -> PageResponse:
        """Request a page, and time it."""
        first, text = self._request(path)
        return PageResponse(1000 * first, len(text))

    def read(self, path: str) -> str:
        """The text of a page."""
        return self._request(path)[1].decode()

    def link(self, path: str, pattern: str) -> str:
        """The first link of a page that matches a pattern."""
        links = (html.unescape(href) for href in _LINK.findall(self.read(path)))
        first = next((link for link in links if re.fullmatch(pattern, link)), None)
        if first is None:
            raise GaspError(f"The page {path} has no link like {pattern}; the log may be too short.")
        return first

    def _request(self, path: str) -> tuple[float, bytes]:
        with closing(HTTPConnection(self._at, timeout=60)) as connection:
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            first = time.perf_counter() - began
            text = answer.read()
        if answer.status != 200:
            raise GaspError(f"The page {path} was answered by {answer.status}; see the output of the viewer.")
        return first, text


class ViewerProcess:
    """A running viewer."""

    def __init__(self, address: str, process: int) -> None:
        self.address = address
        self._status = Path(f"/proc/{process}/status")

    def wait_until_indexed(self, run: str) -> None:
        """Wait until it has read and indexed all of a run."""
        client, deadline = PageClient(self.address), time.monotonic() + INDEX_TIMEOUT_S
        while "Reading the log" in client.read(f"/runs/{run}/goalposts") or "Still searching" in client.read(
            f"/runs/{run}/suspicion"
        ):
            if time.monotonic() > deadline:
                raise GaspError(f"The viewer has not read the log within {INDEX_TIMEOUT_S:.0f} s; make a shorter one.")
            time.sleep(1)

    def peak_mb(self) -> float:
        """Its peak memory."""
        match = re.search(r"VmHWM:\s*(\d+) kB", self._status.read_text())
        assert match is not None
        return int(match[1]) / 1000


@contextmanager
def viewer_process(runs: Sequence[Path]) -> Iterator[ViewerProcess]:
    """A viewer of runs, for the context."""
    command = [sys.executable, "-m", "events.web", "--port", "0", *map(str, runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield ViewerProcess(process.stdout.readline().strip(), process.pid)
        finally:
            process.send_signal(signal.SIGINT)


def page_addresses(client: PageClient) -> dict[str, str]:
    """An address of every kind of page about one run, by what it is."""
    run = client.link("/", "/runs/[^/]+")
    busiest = client.link(f"{run}/goalposts?order=episodes&descending=yes", f"{run}/goalposts/[0-9a-f]+")
    question = client.link(busiest, f"{run}/questions/.*")
    answers = client.link(question, f"{run}/answers/.*")
    addresses = {
        "runs": "/",
        "run": run,
        "goalposts": client.link(run, f"{run}/goalposts"),
        "goalposts, sorted by lifts": f"{run}/goalposts?order=lifts&descending=yes",
        "goalposts, filtered": f"{run}/goalposts?text=reverse",
        "goalposts, page 2": client.link(f"{run}/goalposts", rf"{run}/goalposts\?page=2"),
        "goalpost with most episodes": busiest,
        "question": question,
        "answers": answers,
        "attempt of the student": client.link(answers, f"{run}/attempts/.*"),
        "attempt of the teacher": client.link(busiest, f"{run}/attempts/.*"),
        "suspicion": client.link(run, f"{run}/suspicion"),
        "suspicion, older": client.link(f"{run}/suspicion", rf"{run}/suspicion\?.*before=.*"),
        "policies": client.link(run, f"{run}/policies"),
        "policy": client.link(f"{run}/policies", f"{run}/policies/.*"),
        "events": client.link(run, f"{run}/events"),
        "events of one kind": f"{run}/events?kind=evaluation_finished",
        "an event": client.link(f"{run}/events", f"{run}/events/.*"),
        "the run compared": client.link(run, r"/compare\?run=.*"),
    }
    searches = {f"search: {what}, `{query}`": f"{run}/search?q={quote(query)}" for what, query in SEARCHES.items()}
    return addresses | searches
