"""Logs that people have stay readable: one golden log per schema, for ever."""

import shutil
from pathlib import Path

import pytest

from events.errors import BadInput
from events.log import Head
from events.projections import RunSummary, fold
from events.rollouts import unpack
from events.stores import open_log
from events.stores.sqlite import SCHEMA_VERSION, SqliteLog
from events.upcast import KINDS
from events.values import BlobHash, Question
from tests.make_golden import main
from tests.scenes import question

GOLDEN = Path(__file__).parent / "golden"
HEADS = {1: Head(52, "8141bf003c0d3bf6033644d438e09306703fa88875517ad64c287be4ffe699b9")}
"""Position and head of each golden log, as they were when it was made."""
KINDS_OF = {
    1: "attempts_made attempts_verified episode_failed episode_finished episode_started evaluation_finished gap_measured "
    "goalpost_added iteration_finished iteration_started pass_rate_measured policy_served policy_updated question_accepted "
    "question_proposed question_rejected question_validated reward_given run_finished run_resumed run_started"
}
"""Kinds of facts that each golden log holds."""


@pytest.fixture(params=sorted(HEADS))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, SqliteLog]:
    path = tmp_path / "log.sqlite"
    shutil.copy(GOLDEN / f"log-schema-{request.param}.sqlite", path)
    return request.param, open_log(path)


def test_a_golden_log_verifies_and_has_the_head_it_was_made_with(golden: tuple[int, SqliteLog]) -> None:
    schema, log = golden
    assert log.verify() is None
    assert log.head() == HEADS[schema]


def test_every_event_of_a_golden_log_reads_as_a_fact_of_today(golden: tuple[int, SqliteLog]) -> None:
    schema, log = golden
    kinds = {event.fact.kind for event in log.read()}
    assert kinds == set(KINDS_OF[schema].split())
    assert kinds <= set(KINDS)


def test_questions_and_rollouts_of_a_golden_log_read_back(golden: tuple[int, SqliteLog]) -> None:
    _, log = golden
    added = next(log.read("goalposts")).fact
    assert Question.model_validate_json(log.get(BlobHash(added.blob))) == question(1000)
    for event in log.read(kinds=("attempts_made", "question_proposed")):
        generation = event.fact.generation
        rollouts = unpack(log.get(generation.tokens))
        assert len(rollouts.ids) == generation.count
        assert sum(map(len, rollouts.ids)) == generation.length


def test_a_golden_log_folds_to_its_figures(golden: tuple[int, SqliteLog]) -> None:
    summary = fold(RunSummary(), golden[1].read())
    assert (summary.finished, summary.resumed, summary.lemmas, summary.lifts) == (True, 1, 1, 1)
    assert [found.pass_at[1] for found in summary.evaluations] == [0.1, 0.25]


def test_there_is_a_golden_log_of_the_schema_of_today() -> None:
    assert SCHEMA_VERSION in HEADS
    assert set(KINDS_OF[SCHEMA_VERSION].split()) == set(KINDS)


def test_a_golden_log_is_never_made_again() -> None:
    with pytest.raises(BadInput, match="never made again"):
        main(GOLDEN / "log-schema-1.sqlite")
