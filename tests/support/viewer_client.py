"""Looks at the viewer's pages as a browser does, at runs that are told for the purpose; waits for what threads do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from starlette.routing import compile_path
from starlette.testclient import TestClient

from events.facts.types import AttemptsMade, AttemptsVerified, GoalpostAdded
from events.facts.values import IOPair, Question, Verdict, canonical
from events.stores import open_log
from events.web.pages import PAGES
from events.web.view.viewer import Viewer
from tests.support.example_runs import PROVENANCE, ExampleRun, example_run

HOSTILE_HTML = (
    "</script></pre><script>window.pwned=alert(1)</script><img src=x onerror=alert(2)>"
    "<a href='javascript:alert(3)'>[go](javascript:alert(4))</a>\"'"
)
CONTROL_CHARACTERS = "\x1b[31m\u202egnp.exe\u2066"
LONE_SURROGATE = "\ud800"
SECRET = "hunter2-of-mine"


def record_run(folder: Path, *, iterations: int = 2) -> ExampleRun:
    """A run in a folder, of some iterations; its log stays open for more."""
    example = example_run(open_log(folder / "log.sqlite", create=True))
    example.run(recipe="gasp", seed=7, play={"iterations": 9}, model={"api_key": SECRET, "name": "pocket"}).goalpost(2)
    example.evaluate("test", successes=3)
    for _ in range(iterations):
        example.start(4).episode(rejected=("not_novel",)).episode(lift=None).practice().fail().finish().update()
    return example


def wait_until_indexed(viewer: Viewer, slug: str) -> None:
    """Wait until the log is read and indexed to its end."""
    run, until = viewer.run(slug), time.monotonic() + 60
    assert run.index is not None
    while run.position < run.head:
        assert time.monotonic() < until, f"{run.position} of {run.head} after a minute: {run.problem}"
        time.sleep(0.02)


class ParsedPage(HTMLParser):
    """What an address answered, as a browser would take it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.labels: set[str | None] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in ("a", "link") and attributes.get("href"):
            self.links.append(str(attributes["href"]))
        if attributes.get("id"):
            self.ids.append(str(attributes["id"]))
        if tag == "label":
            self.labels.add(attributes.get("for"))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def json_address(address: str) -> str:
    path, mark, query = address.partition("?")
    return f"{'/index' if path == '/' else path}.json{mark}{query}"


def crawl(browser: TestClient, most: int = 6) -> dict[str, str]:
    """The text of every page that links lead to; so many of a kind at most."""
    texts: dict[str, str] = {}
    waiting, kinds = ["/"], {}
    while waiting:
        address = waiting.pop(0).partition("#")[0]
        parts = urlsplit(address)
        kind = tuple("" if any(map(str.isdigit, part)) else part for part in parts.path.split("/")[:5]), bool(parts.query)
        if address in texts or kinds.get(kind, 0) >= most or parts.path.startswith("/static/") or parts.path.endswith(".json"):
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        answer = browser.get(address)
        assert answer.status_code == 200, f"{address}: {answer.status_code} {answer.text[-400:]}"
        texts[address] = answer.text
        waiting += [link for link in ParsedPage(answer.text).links if link.startswith("/")]
    return texts


def add_hostile_goalpost(example: ExampleRun) -> str:
    """A goalpost, a completion and a verdict that want to be more than text; gives the stream of the answers."""
    question = Question(
        statement=HOSTILE_HTML + CONTROL_CHARACTERS,
        program=f"def f():\n    return {HOSTILE_HTML!r}",
        private=(IOPair(input=HOSTILE_HTML, output=HOSTILE_HTML),),
    )
    example.log.append(
        "goalposts", [GoalpostAdded(question=question.id, blob=example.log.put(canonical(question)), source=HOSTILE_HTML)]
    )
    example.goalposts = [question]
    example.start(1).open(question, "guided")
    generation = example.generation(HOSTILE_HTML + CONTROL_CHARACTERS, 1)
    texts = example.log.put(json.dumps([HOSTILE_HTML + CONTROL_CHARACTERS + LONE_SURROGATE]).encode())
    fact = AttemptsMade(
        purpose="gap", question=question.id, task="induction", generation=generation.model_copy(update={"texts": texts})
    )
    made = example.log.append(example.stream, [fact])[0]
    verdict = Verdict(outcome="wrong_answer", passed=0, total=1, detail=HOSTILE_HTML + CONTROL_CHARACTERS)
    example.log.append(example.stream, [AttemptsVerified(of=made.version, verdicts=(verdict,), provenance=PROVENANCE)])
    example.log.append(example.stream, [fact.model_copy(update={"purpose": "solve"})])
    return f"{example.stream}/{made.version}"


def route_of(path: str) -> str | None:
    """The route of a page's address; None for what is no page."""
    return next((route for route in PAGES if compile_path(route)[0].fullmatch(path) and not path.endswith(".json")), None)


def stream_messages(answer: httpx.Response) -> Iterator[dict]:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
