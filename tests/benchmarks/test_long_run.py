"""The made-up long run: a sound log that follows from its seed, told as a run is played, with texts that mean what is said of them."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.long_run import GOALPOST_COUNT, LongRun, main
from benchmarks.synthetic_player import ATTEMPTS
from events.export.table_rows import TABLES
from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified
from events.index.writer import Indexer
from events.pure.answer_parsing import Malformed, parse_program
from events.stores.memory import MemoryLog

EVENTS = 2500


def made(seed: int) -> Log:
    log = MemoryLog()
    LongRun(log, seed).write(EVENTS)
    return log


@pytest.fixture(scope="module")
def log() -> Log:
    return made(1)


def test_it_is_sound_and_follows_from_its_seed(log: Log) -> None:
    assert log.verify() is None
    assert log.head().position >= EVENTS
    assert made(1).head() == log.head() != made(2).head()


def test_every_table_can_be_read_off_it(log: Log) -> None:
    rows = {name: list(table.rows(log, "run", log.head().position)) for name, table in TABLES.items()}
    assert {name for name, listed in rows.items() if not listed} == {"texts", "trials"}, (
        "a player that learns from rewards at once gives no texts and tries nothing"
    )
    assert {row.origin for row in rows["questions"]} == {"goalpost", "practice", "lemma", "lift"}
    assert {row.task for row in rows["attempts"]} >= {"induction", "deduction", "abduction", "easy", "hard"}


def test_answers_are_as_many_as_is_said_and_what_passed_is_a_program(log: Log) -> None:
    made = {(event.stream, event.version): event.fact for event in log.read(kinds=("attempts_made",))}
    for event in log.read(kinds=("attempts_verified",)):
        verified, fact = event.fact, made[event.stream, event.fact.of]
        assert isinstance(verified, AttemptsVerified)
        assert isinstance(fact, AttemptsMade)
        texts = json.loads(log.get(fact.generation.texts))
        rollouts = unpack_rollouts(log.get(fact.generation.tokens))
        assert len(texts) == len(rollouts.ids) == len(verified.verdicts) == ATTEMPTS
        assert sum(map(len, rollouts.ids)) == fact.generation.length
        for text, verdict in zip(texts, verified.verdicts, strict=True) if fact.task == "induction" else ():
            assert isinstance(parse_program(text), Malformed) == (verdict.outcome == "malformed")


def test_there_is_something_to_find_in_it(log: Log, tmp_path: Path) -> None:
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up()
        indexing.catch_up_signs()
        index = indexing.index
        for query in (
            "verdict:timeout axis:io passrate<0.5",
            '"take running sums" kind:lemma',
            "reverse -sort",
            "kind:lift accepted:yes",
        ):
            assert index.search(query), query
        assert index.goalposts()[1] == GOALPOST_COUNT
        assert {"near_duplicate", "special_cases_tests"} <= set(index.sign_counts())


def test_it_writes_over_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_text("mine")
    with pytest.raises(BadInput, match="choose another directory"):
        main(tmp_path)
    assert (tmp_path / "log.sqlite").read_text() == "mine"
