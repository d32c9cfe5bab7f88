"""A viewer in a process of its own, somebody who visits it, and one address of every kind of page.

Law: pages are found as people find them, by links from the start page; what is measured is the time until an answer begins.
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
PATIENCE_S = 7200.0
"""How long a viewer may take until it has indexed a log."""
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
"""What is searched for."""


class PageResponse(NamedTuple):
    """One answer."""

    first_ms: float
    """Until its head was there."""
    size: int


class PageClient:
    """Somebody who asks one page after the other, each over a connection of its own."""

    def __init__(self, address: str) -> None:
        self._at = urlsplit(address).netloc

    def ask(self, place: str) -> PageResponse:
        """Ask a page, and measure."""
        first, text = self._ask(place)
        return PageResponse(1000 * first, len(text))

    def read(self, place: str) -> str:
        """The text of a page."""
        return self._ask(place)[1].decode()

    def link(self, place: str, pattern: str) -> str:
        """The first link of a page that looks so."""
        links = (html.unescape(found) for found in _LINK.findall(self.read(place)))
        found = next((link for link in links if re.fullmatch(pattern, link)), None)
        if found is None:
            raise GaspError(f"the page {place} has no link like {pattern}; the log may be too short")
        return found

    def _ask(self, place: str) -> tuple[float, bytes]:
        with closing(HTTPConnection(self._at, timeout=60)) as connection:
            began = time.perf_counter()
            connection.request("GET", place)
            answer = connection.getresponse()
            first = time.perf_counter() - began
            text = answer.read()
        if answer.status != 200:
            raise GaspError(f"the page {place} was answered by {answer.status}; look at what the viewer says")
        return first, text


class ViewerProcess:
    """A viewer that runs."""

    def __init__(self, address: str, process: int) -> None:
        self.address = address
        self._status = Path(f"/proc/{process}/status")

    def caught_up(self, run: str) -> None:
        """Wait until it knows all of a run, its index included."""
        visitor, until = PageClient(self.address), time.monotonic() + PATIENCE_S
        while "Reading the log" in visitor.read(f"/runs/{run}/goalposts"):
            if time.monotonic() > until:
                raise GaspError(f"the viewer has not read the log within {PATIENCE_S:.0f} s; make a shorter one")
            time.sleep(1)

    def peak_mb(self) -> float:
        """The most memory that it had at once."""
        found = re.search(r"VmHWM:\s*(\d+) kB", self._status.read_text())
        assert found is not None
        return int(found[1]) / 1000


@contextmanager
def serving(runs: Sequence[Path]) -> Iterator[ViewerProcess]:
    """A viewer of runs, until it is no longer needed."""
    command = [sys.executable, "-m", "events.web", "--port", "0", *map(str, runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield ViewerProcess(process.stdout.readline().strip(), process.pid)
        finally:
            process.send_signal(signal.SIGINT)


def page_addresses(visitor: PageClient) -> dict[str, str]:
    """An address of every kind of page about one run, by what it is."""
    run = visitor.link("/", "/runs/[^/]+")
    busiest = visitor.link(f"{run}/goalposts?order=episodes&descending=yes", f"{run}/goalposts/[0-9a-f]+")
    question = visitor.link(busiest, f"{run}/questions/.*")
    answers = visitor.link(question, f"{run}/answers/.*")
    found = {
        "runs": "/",
        "run": run,
        "goalposts": visitor.link(run, f"{run}/goalposts"),
        "goalposts, sorted by lifts": f"{run}/goalposts?order=lifts&descending=yes",
        "goalposts, filtered": f"{run}/goalposts?text=reverse",
        "goalposts, page 2": visitor.link(f"{run}/goalposts", rf"{run}/goalposts\?page=2"),
        "goalpost with most episodes": busiest,
        "question": question,
        "answers": answers,
        "attempt of the student": visitor.link(answers, f"{run}/attempts/.*"),
        "attempt of the teacher": visitor.link(busiest, f"{run}/attempts/.*"),
        "suspicion": visitor.link(run, f"{run}/suspicion"),
        "suspicion, older": visitor.link(f"{run}/suspicion", rf"{run}/suspicion\?.*before=.*"),
        "policies": visitor.link(run, f"{run}/policies"),
        "policy": visitor.link(f"{run}/policies", f"{run}/policies/.*"),
        "events": visitor.link(run, f"{run}/events"),
        "events of one kind": f"{run}/events?kind=evaluation_finished",
        "an event": visitor.link(f"{run}/events", f"{run}/events/.*"),
        "the run compared": visitor.link(run, r"/compare\?run=.*"),
    }
    searches = {f"search: {what}, `{query}`": f"{run}/search?q={quote(query)}" for what, query in SEARCHES.items()}
    return found | searches
