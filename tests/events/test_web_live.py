import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from starlette.testclient import TestClient

from events.facts.errors import BadInput, LogCorrupt
from events.index.writer import Indexer
from events.projections.players import Players
from events.projections.run_summary import CompletionCount
from events.stores import open_log
from events.web.app import make_app
from events.web.view.log_follower import LogFollower, _copied
from events.web.view.viewer import Viewer
from tests.support.example_runs import ExampleRun, about_a_document, example_run
from tests.support.viewer_client import ParsedPage, record_run, stream_messages, wait_until_indexed


def is_mutable(value: object) -> bool:
    return isinstance(value, list | dict | CompletionCount | Players)


def test_a_new_run_appears_and_one_that_is_gone_disappears(tmp_path: Path, viewer: Viewer) -> None:
    record_run(tmp_path / "runs" / "later", iterations=1).log.close()
    time.sleep(2.1)
    browser = TestClient(make_app(viewer))
    assert "later" in browser.get("/").text
    for file in (tmp_path / "runs" / "later").iterdir():
        file.unlink()
    time.sleep(2.1)
    assert "later" not in browser.get("/").text
    assert browser.get("/runs/later").status_code == 404


def test_another_log_in_the_place_of_one_is_noticed(tmp_path: Path, viewer: Viewer, example: ExampleRun) -> None:
    wait_until_indexed(viewer, "first")
    example.log.close()
    for file in (tmp_path / "runs" / "first").glob("log.sqlite*"):
        file.unlink()
    record_run(tmp_path / "runs" / "first", iterations=1).log.close()
    wait_until_indexed(viewer, "first")
    assert TestClient(make_app(viewer)).get("/runs/first.json").json()["headlines"][0]["value"] == 1


def test_runs_of_one_name_have_addresses_of_their_own(tmp_path: Path) -> None:
    for place in ("a/run", "b/run", "c/run.json"):
        record_run(tmp_path / place, iterations=0).log.close()
    with closing(Viewer([str(tmp_path / place) for place in ("a/run", "b/run", "c/run.json")])) as viewer:
        assert sorted(run.slug for run in viewer.runs()) == ["run", "run-2", "run-3"]


def test_a_run_that_cannot_be_read_has_its_line_and_leaves_the_others_alone(tmp_path: Path, browser: TestClient) -> None:
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "log.sqlite").write_text("this is no database, though it is called one")
    time.sleep(2.1)
    lines = {line["name"]: line for line in browser.get("/index.json").json()["runs"]}
    assert lines["broken"]["problem"]
    assert lines["first"]["iterations"] == 2
    assert browser.get("/runs/broken").status_code in (400, 500)


def test_nothing_is_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is nothing at"):
        Viewer([str(tmp_path / "none")])


def test_a_run_in_a_database_is_shown_and_followed(postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with closing(open_log(f"{postgres}?run=web_shown", create=True)) as log:
        example = example_run(log).run(recipe="gasp").goalpost(1).play().update()
        with closing(Viewer([postgres])) as viewer:
            assert "web_shown" in [run.name for run in viewer.runs()]
            wait_until_indexed(viewer, "web_shown")
            example.play()
            wait_until_indexed(viewer, "web_shown")
            assert TestClient(make_app(viewer)).get("/runs/web_shown.json").json()["headlines"][0]["value"] == 2


@contextmanager
def served(viewer: Viewer) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(viewer), log_level="warning", lifespan="off", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        viewer.end()
        server.should_exit = True
        thread.join()
        listening.close()


def test_a_growing_log_is_told_live_and_the_page_follows(viewer: Viewer, example: ExampleRun) -> None:
    wait_until_indexed(viewer, "first")
    with served(viewer) as address, httpx.Client(base_url=address, timeout=20) as client:
        with client.stream("GET", "/runs/first/live") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            told_of = stream_messages(answer)
            assert next(told_of) == {"position": example.log.head().position, "finished": False}
            example.play()
            end = example.log.head().position
            assert next(move for move in told_of if move["position"] == end)["finished"] is False
            assert client.get("/runs/first.json").json()["iterations"][0]["iteration"] == 3
            example.end()
            assert next(move for move in told_of if move["finished"])["position"] == end + 1
        assert ">Finished" in client.get("/runs/first").text


def test_the_list_of_runs_is_notified_of_new_runs(tmp_path: Path, viewer: Viewer) -> None:
    with served(viewer) as address, httpx.stream("GET", f"{address}/live", timeout=20) as answer:
        told_of = stream_messages(answer)
        before = next(told_of)["position"]
        record_run(tmp_path / "runs" / "later", iterations=1).log.close()
        assert any("later" in httpx.get(f"{address}/").text for move in told_of if move["position"] > before)


def test_two_viewers_of_one_run_show_the_same(tmp_path: Path, example: ExampleRun) -> None:
    where = str(tmp_path / "runs" / "first")
    with closing(Viewer([where])) as first, closing(Viewer([where])) as other:
        example.play()
        wait_until_indexed(first, "first")
        wait_until_indexed(other, "first")
        pages = [TestClient(make_app(viewer)).get("/runs/first/goalposts.json").json() for viewer in (first, other)]
        assert pages[0] == pages[1]


def test_a_run_being_indexed_is_shown_with_how_far_it_is(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch, example: ExampleRun
) -> None:
    monkeypatch.setattr(Indexer, "catch_up", lambda self, on_progress=None, stop=None: None)
    monkeypatch.setattr("events.web.view.run_handle.READING_BEHIND", 0)
    example.play()
    time.sleep(1)
    answer = browser.get("/runs/first")
    assert answer.status_code == 200
    assert "Reading the log:" in answer.text
    assert browser.get("/runs/first/goalposts").status_code == 200


def test_why_a_log_cannot_be_followed_is_said_on_its_pages(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Indexer, on_progress: object = None, stop: object = None) -> None:
        raise LogCorrupt("a blob is missing; run verify")

    monkeypatch.setattr(Indexer, "catch_up", broken)
    until = time.monotonic() + 10
    while "a blob is missing" not in (text := browser.get("/runs/first").text):
        assert time.monotonic() < until, text
        time.sleep(0.1)


def test_a_summary_goes_on_from_where_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.web.view.log_follower.SNAPSHOT_EVERY", 10)
    example = record_run(tmp_path / "run")
    with closing(example.log):
        with closing(Viewer([str(tmp_path / "run")])) as viewer:
            wait_until_indexed(viewer, "run")
            first = viewer.run("run").summary()
        example.play()
        reads = []
        real = type(example.log).read
        monkeypatch.setattr(
            type(example.log), "read", lambda self, stream=None, **bounds: reads.append(bounds) or real(self, stream, **bounds)
        )
        with closing(LogFollower(str(tmp_path / "run"), lambda: None)) as following:
            assert following.summary().position >= first.position
        assert {"after": 0} not in reads


def test_the_first_page_does_not_wait_for_a_large_snapshot_and_has_a_place_for_all_that_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SNAPSHOT_EVERY", 10), ("LARGE_SNAPSHOT", 1), ("HEAD_START_S", 60)):
        monkeypatch.setattr(f"events.web.view.log_follower.{name}", value)
    monkeypatch.setattr("events.web.view.run_handle.READING_BEHIND", 0)
    record_run(tmp_path / "run").log.close()
    with closing(Viewer([str(tmp_path / "run")])) as viewer:
        viewer.run("run").summary()
        wait_until_indexed(viewer, "run")
    with closing(Viewer([str(tmp_path / "run")])) as viewer:
        browser = TestClient(make_app(viewer))
        first = browser.get("/runs/run").text
        assert "Reading the log: 0 of " in first
        assert browser.get("/runs/run.json").json()["headlines"][0]["value"] == 2
        whole = browser.get("/runs/run").text
    assert "Reading the log" not in whole
    live = [{attrs.get("id") for _, attrs in ParsedPage(text).tags if "data-live" in attrs} for text in (first, whole)]
    assert {name for name in live[1] - live[0] if not str(name).startswith("figure-")} == set()
    assert {"figures", "settings"} <= live[0] - live[1]


def test_a_summary_that_was_given_out_does_not_change_any_more(example: ExampleRun, viewer: Viewer) -> None:
    wait_until_indexed(viewer, "first")
    summary = viewer.run("first").summary()
    again = _copied(summary)
    assert [name for name, value in vars(summary).items() if value is vars(again)[name] and is_mutable(value)] == ["_open"]
    example.start(2).episode(gap_successes=3)
    wait_until_indexed(viewer, "first")
    assert summary == again
    assert viewer.run("first").summary() != summary


def test_closing_leaves_no_thread_and_no_open_file(tmp_path: Path, example: ExampleRun) -> None:
    example.log.close()
    viewer = Viewer([str(tmp_path / "runs")])
    wait_until_indexed(viewer, "first")
    viewer.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("follow")]
    assert not [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]


def test_a_log_that_nobody_asks_for_is_let_go_and_opened_again(
    tmp_path: Path, viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_indexed(viewer, "first")
    monkeypatch.setattr("events.web.view.log_follower.IDLE_S", 0.1)
    until = time.monotonic() + 10
    while [thread for thread in threading.enumerate() if thread.name.startswith("follow")]:
        assert time.monotonic() < until
        time.sleep(0.05)
    monkeypatch.undo()
    wait_until_indexed(viewer, "first")
    assert TestClient(make_app(viewer)).get("/runs/first.json").json()["headlines"][0]["value"] == 2


def test_a_question_whose_attempts_agree_on_something_else_says_so(viewer: Viewer, example: ExampleRun) -> None:
    example.start().open(example.goalposts[0], "guided")
    lemma, _ = example.propose("easy", 1, example.goalposts[0], 2, 10, agreeing=7)
    wait_until_indexed(viewer, "first")
    voted, made = example.propose("hard", 1, lemma, 6, 10, voted={"right": True})
    wait_until_indexed(viewer, "first")
    summary = example.give(certain=True)
    begun, tried = example.begin_trial(3), example.policies["student"]
    example.examine_trial(begun, tried, before=1, after=2).promote(begun, tried)
    example.finish().update().evaluate(attempts=1, successes=1).calibrate(scores=[(True, 0.75, 0.875)])
    wait_until_indexed(viewer, "first")
    client = TestClient(make_app(viewer))
    page = client.get(f"/runs/first/questions/{summary.fact.question}").text
    assert f"In iteration {example.iteration} a text was given to the student to learn as a certain answer, 4 tokens" in page
    assert "1 given text<" in client.get(f"/runs/first/policies/{example.policies['student']}").text
    run = client.get("/runs/first").text
    assert "test average precision" in run
    assert "1 of their students promoted" in run
    assert '<td class="n">0.250</td>' in run
    assert "of 1 vote, 100% gave a label; agreement 60%" in run
    asked = client.get(f"/runs/first/attempts/{example.stream}/1/0").text
    assert "the student was 0.88 certain; its confidence is 0.75." in asked
    label = "6 of 10 answers have equal outputs against 1: they are the label (the program&#39;s outputs), which is right."
    for address in (f"questions/{voted.id}", f"attempts/{made.stream}/{made.version}/0"):
        assert label in client.get(f"/runs/first/{address}").text
    page = client.get(f"/runs/first/questions/{lemma.id}").text
    assert "7 of 10 attempts agree with each other, not with the program: the statement may not describe it." in page
    asked, _, document = about_a_document(example.start())
    wait_until_indexed(viewer, "first")
    page = client.get(f"/runs/first/questions/{asked.id}").text
    assert f"In iteration {example.iteration} written at level hard, about document <a" in page
    assert "5 of 10 answers have equal outputs against 1 with the document: they are the label" in page
    assert f"/runs/first/questions/{document.id}" in page
    page = client.get(f"/runs/first/questions/{document.id}").text
    assert document.statement in page
