"""The index says what the folds of the log say, whenever it is stopped, whatever else lies in its file, while the log grows."""

import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from statistics import fmean

import pytest

from events.export.table_rows import TABLES as FOLDS
from events.facts.consumers import BATCH_SIZE
from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Log
from events.facts.types import EvaluationFinished, GapMeasured
from events.facts.values import Question, Sampling
from events.index.location import index_path, open_index
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry
from events.index.schema import TABLES
from events.index.writer import Indexer
from events.maintenance import migrate
from events.stores import open_log
from events.stores.memory import MemoryLog
from tests.support.damaged_logs import execute_without_triggers
from tests.support.example_runs import ExampleRun, example_run, question

RUNS = itertools.count()
NAMES = [name.split()[2] for name in TABLES if name.startswith("CREATE TABLE")]


def record_example(log: Log) -> ExampleRun:
    """Two iterations with proposals of every fate, a failure, practice, and evaluations."""
    story = example_run(log).run(recipe="gasp").goalpost(3).start(5)
    story.episode(rejected=("malformed", "not_novel")).episode(lemma=None).episode(
        lift=None, task="induction"
    ).fail().practice()
    story.finish().update().evaluate()
    evaluated(story, 3)
    return story.start(3).episode(gap_successes=4).episode(task="abduction").practice(passing=0).finish().update().end()


def evaluated(story: ExampleRun, successes: int) -> None:
    fact = EvaluationFinished(
        name="goalposts",
        iteration=1,
        policy=story.policies["student"],
        sampling=Sampling(),
        attempts=20,
        successes={story.goalposts[0].id: successes, question(1).id: 1},
        pass_at={1: successes / 20},
    )
    story.log.append("evaluation/goalposts/00001", [fact])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def log(folder: Path) -> Iterator[Log]:
    with closing(open_log(folder / "log.sqlite", create=True)) as opened:
        record_example(opened)
        yield opened


@pytest.fixture(scope="module")
def index(log: Log, folder: Path) -> Iterator[Index]:
    with open_index(log, str(folder)) as opened:
        yield opened


def rows(log: Log, name: str) -> list[dict]:
    return [dict(row) for row in FOLDS[name].rows(log, "run", log.head().position)]


def dumped(place: Path) -> dict[str, list]:
    """Everything in an index but its texts, which searches compare."""
    with closing(sqlite3.connect(place)) as db:
        rows = {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in [*NAMES, "checkpoint"]}
        for text in ("asked", "answered"):
            rows[text] = db.execute(f"SELECT rowid FROM {text} ORDER BY rowid").fetchall()
    return rows


def test_appearances_are_the_table_of_questions(log: Log, index: Index) -> None:
    expected = rows(log, "questions")
    entries = [index.appearance(row["stream"], row["version"]) for row in expected]
    same = set(AppearanceEntry.__dataclass_fields__) - {"blob", "title", "goalpost", "detail", "vote", "given", "document"}
    assert [{name: getattr(entry, name) for name in same} for entry in entries] == [
        {name: row[name] for name in same} for row in expected
    ]
    assert [entry.detail for entry in entries] == [row["detail"] or "" for row in expected]
    assert [entry.title for entry in entries if entry.question] == [row["statement"] for row in expected if row["question"]]
    assert {entry.origin for entry in entries} == {"goalpost", "lemma", "lift", "practice"}
    assert {entry.accepted for entry in entries} == {None, False, True}


def test_an_appearance_knows_the_goalpost_of_its_episode_and_where_the_question_is(log: Log, index: Index) -> None:
    lift = next(appearance for hit in index.search("kind:lift accepted:yes") if (appearance := hit.appearance))
    lemma = index.appearances(lift.parent)[0]
    assert lemma.parent == lift.goalpost == lemma.goalpost
    assert Question.model_validate_json(log.get(lift.blob)).id == lift.question


def test_answers_are_the_table_of_attempts(log: Log, index: Index) -> None:
    expected: dict[tuple, list[dict]] = {}
    for row in rows(log, "attempts"):
        if row["role"] == "student":
            expected.setdefault((row["stream"], row["version"]), []).append(row)
    same = set(AttemptsEntry.__dataclass_fields__) & set(next(iter(expected.values()))[0]) - {"reward"}
    for place, attempts in expected.items():
        entries = index.answers_at(*place)
        assert {name: getattr(entries, name) for name in same} == {name: attempts[0][name] for name in same}
        assert (entries.count, entries.outcomes) == (
            len(attempts),
            Counter(row["outcome"] for row in attempts if row["outcome"]),
        )
        rewards = [row["reward"] for row in attempts if row["reward"] is not None]
        assert entries.reward == (pytest.approx(fmean(rewards)) if rewards else None)
        assert entries.rewarded_at == attempts[0]["reward_position"]
        assert entries.tokens == sum(len(row["completion_ids"]) for row in attempts)
    listed = index.answers(limit=1000)
    assert {(entry.stream, entry.version) for entry in listed} == set(expected)
    assert [entry.position for entry in listed] == sorted((entry.position for entry in listed), reverse=True)


def test_gaps_are_the_table_of_gaps(log: Log, index: Index) -> None:
    expected = rows(log, "gaps")
    assert expected
    for goalpost in {row["question"] for row in expected}:
        mine = [row for row in expected if row["question"] == goalpost]
        entries = index.gaps(goalpost)
        assert [entry.gap for entry in entries] == [row["gap"] for row in mine]
        same = ("position", "stream", "iteration", "policy", "successes", "attempts", "best_share")
        assert [astuple(entry) for entry in entries] == [tuple(row[name] for name in same) for row in mine]


def test_goalposts_count_what_happened_at_them(log: Log, index: Index) -> None:
    goalposts, count = index.goalposts()
    assert count == len(goalposts) == 3
    questions = rows(log, "questions")
    for goalpost in goalposts:
        gaps = [row["gap"] for row in rows(log, "gaps") if row["question"] == goalpost.question]
        measures = [row for row in rows(log, "gaps") if row["question"] == goalpost.question]
        shares = [1.0 if row["best_share"] is None and row["successes"] else row["best_share"] for row in measures]
        assert goalpost.history == tuple(zip([row["iteration"] for row in measures], gaps, shares, strict=True))
        assert goalpost.best_share == max(share or 0 for share in shares)
        assert (goalpost.first_gap, goalpost.last_gap, goalpost.best_gap) == (gaps[0], gaps[-1], min(gaps))
        lemmas = [row["question"] for row in questions if row["parent"] == goalpost.question and row["accepted"]]
        lifts = [row["question"] for row in questions if row["parent"] in lemmas and row["accepted"]]
        assert (goalpost.lemmas, goalpost.lifts) == (len(lemmas), len(lifts))
        assert index.goalpost(goalpost.question) == goalpost
    assert [listed.solved_after for listed in sorted(goalposts, key=lambda listed: listed.solved_after or 9)] == [1, None, None]


def test_episodes_of_a_goalpost_come_latest_first_with_their_ends(log: Log, index: Index) -> None:
    ends = {event.stream: event.fact for event in log.read(kinds=("episode_finished", "episode_failed"))}
    for goalpost in index.goalposts()[0]:
        started = [event for event in log.read(kinds=("episode_started",)) if event.fact.question == goalpost.question]
        expected = [
            (
                event.stream,
                event.position,
                event.fact.iteration,
                event.fact.axis,
                getattr(ends[event.stream], "reason", "failed"),
            )
            for event in reversed(started)
        ]
        episodes = index.episodes(goalpost.question)
        assert [
            (episode.stream, episode.position, episode.iteration, episode.axis, episode.ending) for episode in episodes
        ] == expected
        assert goalpost.episodes == len(episodes)
        assert index.episodes(goalpost.question, before=episodes[0].position) == episodes[1:]
        assert index.episodes(goalpost.question, limit=1) == episodes[:1]


def test_goalposts_are_ordered_filtered_and_paged(index: Index) -> None:
    every, _ = index.goalposts(order="episodes", descending=True)
    assert [goalpost.episodes for goalpost in every] == sorted((goalpost.episodes for goalpost in every), reverse=True)
    assert index.goalposts(order="episodes", descending=True, limit=1, offset=1) == ([every[1]], 3)
    assert index.goalposts(where="ADD 1001")[1] == 1
    assert index.goalposts(where=f"{every[0].question[:6]} scene")[0] == [every[0]]
    assert index.goalposts(where="100%' OR 1") == ([], 0)
    assert [goalpost.solved_after for goalpost in index.goalposts(order="solved_after", descending=True)[0]] == [1, None, None]
    with pytest.raises(BadInput, match=r"ordered by 'gaps; DROP'.*; order them by one of question, "):
        index.goalposts(order="gaps; DROP")


def test_many_gaps_are_thinned_out_evenly(tmp_path: Path) -> None:
    log = MemoryLog()
    story = example_run(log).run().goalpost().start(1)
    goalpost = story.goalposts[0]
    story.open(goalpost, "guided")
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        for successes in range(500):
            fact = GapMeasured(question=goalpost.id, successes=successes, attempts=1000, best_share=0, gap=0)
            log.append(story.stream, [fact])
            if successes % 37 == 0 or successes == 499:
                indexing.catch_up()
                gaps = [measure.gap for measure in indexing.index.goalpost(goalpost.id).history]
                assert len(gaps) <= 60
                assert len(gaps) >= min(successes, 29)
                assert (gaps[0], gaps[-1]) == (1.0, 1 - successes / 1000)
                assert sorted(gaps, reverse=True) == list(gaps)
        assert len(indexing.index.gaps(goalpost.id)) == 500


def test_an_index_that_stops_after_any_event_becomes_what_one_without_a_stop_is(tmp_path: Path) -> None:
    whole, grown = MemoryLog(), MemoryLog()
    record_example(whole)
    for event in whole.read():
        for blob in blobs(event.fact):
            grown.put(whole.get(blob))
        grown.append(event.stream, [event.fact], causation=event.causation)
        with closing(Indexer(grown, tmp_path / "grown.sqlite")) as indexing:
            indexing.catch_up()
            indexing.catch_up_signs()
            assert indexing.index.position == event.position
    with closing(Indexer(whole, tmp_path / "whole.sqlite")) as indexing:
        indexing.catch_up()
        indexing.catch_up_signs()
    assert dumped(tmp_path / "grown.sqlite") == dumped(tmp_path / "whole.sqlite")


def blobs(fact: object) -> list:
    made = getattr(fact, "generation", None)
    return [fact.blob] if getattr(fact, "blob", None) else [made.prompt, made.texts, made.tokens] if made else []


def test_it_stops_when_told_and_says_how_far_it_is(tmp_path: Path) -> None:
    log = MemoryLog()
    story = example_run(log).run().goalpost(3)
    while log.head().position < 2 * BATCH_SIZE + 10:
        story.play()
    reports: list[tuple[int, int]] = []
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up(lambda done, total: reports.append((done, total)), stop=lambda: len(reports) == 1)
        assert BATCH_SIZE <= indexing.index.position < 2 * BATCH_SIZE
        indexing.catch_up(lambda done, total: reports.append((done, total)))
        assert indexing.index.position == log.head().position
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (log.head().position, log.head().position)


@pytest.mark.parametrize("there", ["another log", "a longer log", "another schema", "no database", "a cut file"])
def test_whatever_else_lies_in_the_file_gives_way(log: Log, tmp_path: Path, there: str) -> None:
    place, expected = tmp_path / "other.sqlite", tmp_path / "expected.sqlite"
    if there == "no database":
        place.write_bytes(b"no database" * 1000)
    else:
        other = MemoryLog()
        record_example(other).start(1).practice()
        if there == "another log":
            other = MemoryLog()
            example_run(other, seed=1).run().goalpost(9).play()
        with closing(Indexer(other, place)) as indexing:
            indexing.catch_up()
            indexing.catch_up_signs()
    if there == "another schema":
        with closing(sqlite3.connect(place)) as db:
            db.execute("DROP TABLE appearances")
            db.execute("CREATE TABLE stranger (x)")
            db.execute("PRAGMA user_version=999")
    if there == "a cut file":
        place.write_bytes(place.read_bytes()[:5000])
    for file in (place, expected):
        with closing(Indexer(log, file)) as indexing:
            indexing.catch_up()
            indexing.catch_up_signs()
    assert dumped(place) == dumped(expected)


def test_two_that_have_the_file_open_find_it_emptied_and_not_mixed(log: Log, tmp_path: Path) -> None:
    other, place, expected = MemoryLog(), tmp_path / "index.sqlite", tmp_path / "expected.sqlite"
    example_run(other, seed=1).run().goalpost(9).play()
    with closing(Indexer(log, place)) as first, closing(Indexer(other, place)) as two:
        for indexing in (first, two, first):
            indexing.catch_up()
            indexing.catch_up_signs()
        assert two.index.position == log.head().position
    with closing(Indexer(log, expected)) as again:
        again.catch_up()
        again.catch_up_signs()
    assert dumped(place) == dumped(expected)


def test_a_damaged_log_is_an_error_and_no_reason_to_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with closing(open_log(path, create=True)) as log:
        story = record_example(log)
        with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
            indexing.catch_up()
        before = dumped(tmp_path / "index.sqlite")
        story.start(1).practice()
        execute_without_triggers(path, f"UPDATE events SET data = '{{}}' WHERE position = {log.head().position}")
        with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing, pytest.raises(LogCorrupt, match="run verify"):
            indexing.catch_up()
    assert dumped(tmp_path / "index.sqlite") == before


def test_threads_and_a_second_writer_read_and_write_at_once(tmp_path: Path) -> None:
    path, place, failures = tmp_path / "log.sqlite", tmp_path / "index.sqlite", []
    with (
        closing(open_log(path, create=True)) as log,
        closing(Indexer(log, place)) as first,
        closing(Indexer(log, place)) as other,
    ):
        story, over = example_run(log).run().goalpost(3), threading.Event()

        def look(index: Index) -> None:
            seen = 0
            try:
                while not over.is_set():
                    assert index.position >= seen
                    seen = index.position
                    assert all(hit.position > 0 for hit in index.search("add", limit=5))
                    index.goalposts()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=look, args=(indexing.index,)) for indexing in (first, first, other)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            story.play()
            writers = [threading.Thread(target=indexing.catch_up) for indexing in (first, other)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
        over.set()
        for thread in threads:
            thread.join()
        assert failures == []
        with closing(Indexer(log, tmp_path / "again.sqlite")) as again:
            again.catch_up()
    assert dumped(place) == dumped(tmp_path / "again.sqlite")


def test_a_log_in_a_database_has_its_index_in_the_cache(
    log: Log, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"{postgres}?run=index{next(RUNS)}"
    with closing(open_log(url, create=True)) as target:
        migrate(log, target)
        with open_index(target, url) as index:
            assert len(index.search("add", limit=1000)) > 5
    place = index_path(url)
    assert place.is_relative_to(tmp_path / "cache" / "gasp")
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up()
    assert dumped(place) == dumped(tmp_path / "index.sqlite")


def test_an_index_lies_beside_its_log_and_no_password_names_one(tmp_path: Path) -> None:
    for name in ("log.sqlite", "copy.sqlite"):
        open_log(tmp_path / name, create=True).close()
    places = [index_path(str(tmp_path)), index_path(str(tmp_path / "log.sqlite")), index_path(str(tmp_path / "copy.sqlite"))]
    assert places[0] == places[1] == tmp_path / "index.sqlite"
    assert places[2].parent == tmp_path
    assert places[2] != places[0]
    urls = [f"postgresql://me{secret}@host/runs?run=one{more}" for secret, more in (("", ""), (":s3cr3t", ""), (":other", ""))]
    assert len({index_path(url) for url in urls}) == 1
    assert index_path("postgresql://me@host/runs?run=two") != index_path(urls[0])


def test_questions_are_found_by_the_beginning_of_their_id(index: Index) -> None:
    for entry in {hit.appearance for hit in index.search("kind:lemma accepted:yes")}:
        assert index.find(entry.question[:6]) == [index.appearances(entry.question)[0]]
    assert len(index.find("")) == 20 or len(index.find("")) == len({entry.question for entry in index.find("")})
    assert index.find("no such id") == index.find("\ud800%") == []
