import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from events.stores import open_log
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create
from events.text.safe_text import clean
from events.web.app import make_app
from events.web.pages import PAGES
from events.web.view.page import to_json
from events.web.view.viewer import Viewer
from tests.support.example_runs import ExampleRun, example_run
from tests.support.viewer_client import (
    SECRET,
    ParsedPage,
    add_hostile_goalpost,
    crawl,
    json_address,
    record_run,
    route_of,
    wait_until_indexed,
)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleRun]:
    """A run that no test changes."""
    example = record_run(tmp_path_factory.mktemp("runs") / "first")
    yield example
    example.log.close()


@pytest.fixture(scope="module")
def browser(example: ExampleRun) -> Iterator[TestClient]:
    with closing(Viewer([str(example.log.path.parent.parent)])) as viewer:
        wait_until_indexed(viewer, "first")
        yield TestClient(make_app(viewer))


@pytest.fixture(scope="module")
def pages(browser: TestClient) -> dict[str, str]:
    return crawl(browser)


def test_every_page_that_links_lead_to_is_there_with_its_json_and_every_kind_of_page_is_reached(
    browser: TestClient, pages: dict[str, str]
) -> None:
    for address in pages:
        answer = browser.get(json_address(address))
        assert answer.status_code == 200, f"{json_address(address)}: {answer.text[:300]}"
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.text) is not None
    assert {route_of(urlsplit(address).path) for address in pages} == set(PAGES)


def test_pages_hold_nothing_inline_nothing_from_outside_and_are_below_half_a_megabyte(pages: dict[str, str]) -> None:
    for address, text in pages.items():
        looked = ParsedPage(text)
        assert len(text.encode()) < 500_000, address
        for tag, attrs in looked.tags:
            assert "style" not in attrs, f"{address}: {tag} {attrs}"
            assert not [name for name in attrs if name.startswith("on")], f"{address}: {tag} {attrs}"
            for name in ("src", "href", "action"):
                assert (attrs.get(name) or "/").startswith(("/", "#", "?")), f"{address}: {tag} {attrs}"
        assert not looked.of("style"), address
        assert all(script.get("src") for script in looked.of("script")), address


def test_pages_can_be_heard_labels_captions_landmarks_and_no_id_twice(pages: dict[str, str]) -> None:
    for address, text in pages.items():
        looked = ParsedPage(text)
        assert len(looked.ids) == len(set(looked.ids)), address
        assert [len(looked.of(tag)) for tag in ("main", "header", "footer", "h1")] == [1, 1, 1, 1], address
        assert looked.of("html")[0]["lang"] == "en"
        assert len(looked.of("caption")) == len(looked.of("table")), address
        assert all(cell.get("scope") for cell in looked.of("th")), address
        assert all(drawing.get("role") in ("img", "group") or drawing.get("aria-hidden") for drawing in looked.of("svg")), (
            address
        )
        named = [field for field in looked.of("input") if field.get("id") and field["id"] not in looked.labels]
        assert not named, f"{address}: {named}"
        live = [attrs for _, attrs in looked.tags if "data-live" in attrs]
        assert all(attrs.get("id") for attrs in live), f"{address}: {live}"
        spoken = [attrs for _, attrs in looked.tags if attrs.get("role") == "status" or "aria-live" in attrs]
        assert len(spoken) <= 1, address


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/runs/none", 404, "there are first"),
        ("/nothing", 404, "no such page"),
        ("/runs/first/policies/ffff", 404, "No weights of this run have a digest"),
        ("/runs/first/events/999999", 404, "the log ends at"),
        ("/runs/first/events/0", 404, "no event"),
        ("/runs/first/events?after=-1", 400, "whole number"),
        ("/runs/first/events?after=9999999999999999", 400, "whole number"),
        ("/runs/first/events?kind=%3Cb%3E", 400, "the kinds are"),
        ("/runs/first/goalposts/ffff", 404, ""),
        ("/runs/first/questions/ffff", 404, ""),
        ("/runs/first/answers/episode/1/9", 404, ""),
        ("/runs/first/attempts/episode/00001/000/2/99", 404, ""),
        ("/compare?run=none", 404, "there are first"),
        ("/compare?" + "&".join(f"run={number}" for number in range(9)), 400, "too many"),
        ("/static/../app.py", 404, ""),
        ("/static/%2e%2e/app.py", 404, ""),
    ],
)
def test_what_is_not_found_or_makes_no_sense_is_one_sentence_and_no_traceback(
    browser: TestClient, address: str, status: int, words: str
) -> None:
    answer = browser.get(address)
    assert answer.status_code == status, answer.text[-500:]
    assert words in answer.text
    assert "Traceback" not in answer.text
    assert "File &#34;" not in answer.text


def test_a_fault_of_a_page_shows_no_traceback(example: ExampleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Viewer, "runs", lambda self: 1 / 0)
    answer = TestClient(make_app(Viewer([str(example.log.path)])), raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert "fault of the viewer" in answer.text
    assert "ZeroDivisionError" not in answer.text


def test_a_damaged_log_is_a_page_that_says_to_run_verify(tmp_path: Path) -> None:
    example = record_run(tmp_path / "run")
    position = next(event.position for event in example.log.read(kinds=("gap_measured",)))
    with closing(sqlite3.connect(example.log.path)) as db:
        db.execute("DROP TRIGGER events_no_update")
        db.execute("UPDATE events SET data = '{' WHERE position = ?", (position,))
        db.commit()
    example.log.close()
    with closing(Viewer([str(tmp_path / "run")])) as viewer:
        answer = TestClient(make_app(viewer)).get(f"/runs/run/events/{position}")
    assert answer.status_code == 500
    assert "verify" in answer.text
    assert "Traceback" not in answer.text


def test_what_a_model_wrote_stays_text_wherever_it_is_shown(tmp_path: Path) -> None:
    example = record_run(tmp_path / "<script>alert(3)<\u2044script> & \"x'", iterations=0)
    where = add_hostile_goalpost(example)
    with closing(example.log), closing(Viewer([str(tmp_path)])) as viewer:
        slug = viewer.runs()[0].slug
        wait_until_indexed(viewer, slug)
        browser = TestClient(make_app(viewer))
        texts = crawl(browser) | {
            address: browser.get(address).text
            for address in (f"/runs/{slug}/answers/{where}", f"/runs/{slug}/attempts/{where}/0", f"/runs/{slug}/search?q=alert")
        }
        assert sum("alert" in text for text in texts.values()) >= 6
        for address, text in texts.items():
            assert "<script>window" not in text, address
            assert "<img" not in text, address
            assert not any("onerror" in (attrs or {}) for _, attrs in ParsedPage(text).tags), address
            assert text == clean(text), f"{address} holds characters that hide something"
            json_text = browser.get(json_address(address)).text
            assert json_text.isascii(), address
            json.loads(json_text)


def test_secrets_of_the_settings_are_shown_nowhere(browser: TestClient, pages: dict[str, str]) -> None:
    assert "***" in pages["/runs/first"]
    for address, text in pages.items():
        assert SECRET not in text, address
        assert SECRET not in browser.get(json_address(address)).text, address
    assert SECRET not in browser.get("/runs/first/events/1.json").text


def test_a_page_and_its_json_show_the_same_figures(browser: TestClient) -> None:
    run = browser.get("/runs/first.json").json()
    heads = {head["name"]: head["value"] for head in run["headlines"]}
    assert heads["iterations"] == 2
    assert heads["lemmas"] == 4
    assert heads["lifts"] == 2
    assert [line["iteration"] for line in run["iterations"]] == [2, 1]
    assert run["seats"][0]["ever"]["rejected"] == {"not_novel": 2}
    accepted, proposed = run["iterations"][0]["seats"]["easy"]
    assert f'<td class="n">{accepted} / {proposed}</td>' in browser.get("/runs/first").text


def test_a_policy_says_what_fed_it_and_where_it_was_played(browser: TestClient, example: ExampleRun) -> None:
    lines = browser.get("/runs/first/policies.json").json()["lines"]
    assert [line["iteration"] for line in lines] == [2, 1, 0]
    first = browser.get(f"/runs/first/policies/{lines[1]['digest']}.json").json()
    rewards = [
        event.position
        for event in example.log.read(kinds=("reward_given",))
        if first["learned"]["after"] < event.position <= first["learned"]["until"]
    ]
    assert [row["position"] for row in first["consumed"]] == rewards
    assert first["played"] == [[2, 2]]
    assert first["children"] == [lines[0]["digest"]]
    students = [row for row in first["consumed"] if row["role"] == "student"]
    assert students
    assert all(row["question"] for row in students)
    assert browser.get(f"/runs/first/policies/{lines[1]['digest'][:10]}.json").json() == first


def test_long_lists_are_paged_and_no_reward_is_left_out(tmp_path: Path) -> None:
    example = example_run(open_log(tmp_path / "log.sqlite", create=True)).run(recipe="gasp").goalpost(1).start(60)
    for _ in range(60):
        example.practice()
    example.finish().update()
    with closing(example.log), closing(Viewer([str(tmp_path)])) as viewer:
        slug = viewer.runs()[0].slug
        wait_until_indexed(viewer, slug)
        browser = TestClient(make_app(viewer))
        digest = browser.get(f"/runs/{slug}/policies.json").json()["lines"][0]["digest"]
        page = browser.get(f"/runs/{slug}/policies/{digest}.json").json()
        rest = browser.get(f"/runs/{slug}/policies/{digest}.json?after={page['more']}").json()
        assert [len(page["consumed"]), len(rest["consumed"])] == [50, 10]
        seen, after = [], 0
        while after is not None:
            events = browser.get(f"/runs/{slug}/events.json?after={after}").json()
            seen += [event["position"] for event in events["events"]]
            after = events["next"]
        assert seen == list(range(1, example.log.head().position + 1))


def test_runs_side_by_side_show_the_settings_that_differ(tmp_path: Path, example: ExampleRun) -> None:
    other = example_run(open_log(tmp_path / "second" / "log.sqlite", create=True)).run(recipe="azr", seed=7)
    other.goalpost(1).play().update()
    other.log.close()
    with closing(Viewer([str(example.log.path), str(tmp_path / "second")])) as viewer:
        wait_until_indexed(viewer, "first")
        wait_until_indexed(viewer, "second")
        comparison = TestClient(make_app(viewer)).get("/compare.json?run=first&run=second").json()
    assert comparison["settings"]["recipe"] == ["gasp", "azr"]
    assert "seed" not in comparison["settings"]
    numbers = {row["name"]: row["values"] for row in comparison["numbers"]}
    assert numbers["iterations"] == [2, 1]
    assert numbers["test pass@1"][1] is None


def test_models_are_plain_data_or_an_error_not_a_guess() -> None:
    assert to_json({1: float("nan"), "x": (1, {2.5})}) == {"1": None, "x": [1, [2.5]]}
    with pytest.raises(TypeError, match="no plain data"):
        to_json(object())


def test_a_run_whose_trainer_tells_how_far_it_is_is_being_played_however_old_its_last_event_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    create(tmp_path / "run" / "log.sqlite")
    with closing(SqliteLog(tmp_path / "run" / "log.sqlite", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))) as log:
        example_run(log).run().goalpost().start()
    with closing(Viewer([str(tmp_path / "run")])) as viewer:
        wait_until_indexed(viewer, "run")
        browser = TestClient(make_app(viewer))
        assert 'class="state silent"' in browser.get("/").text
        (tmp_path / "run" / "trainer.progress").write_text("tokens learned: 3 of 8")
        assert 'class="state playing"' in browser.get("/").text
