"""Logs that people have stay readable: one golden log per schema, for ever."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.errors import BadInput, Conflict
from events.facts.log import Head
from events.facts.rollouts import unpack_rollouts
from events.facts.types import RunFinished
from events.facts.upcast import FACT_TYPES
from events.facts.values import BlobHash, Question
from events.projections.run_summary import RunSummary, fold
from events.stores import open_log
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import KEYS_SINCE, SCHEMA_VERSION
from tests.support.example_runs import question
from tests.support.make_golden_log import main
from tests.support.paths import GOLDEN

HEADS = {
    "1": Head(52, "8141bf003c0d3bf6033644d438e09306703fa88875517ad64c287be4ffe699b9"),
    "2": Head(53, "352475b35a0dc6e54cbc387c61438b9c04d0ef7eea254d18b246296bd15bf9f8"),
    "3": Head(53, "40d84d36341312867e2103f8577ab2eca4d3311ff66daff7e9f58d38f9572b5c"),
    "3-pruned": Head(54, "bdf3a888572bee8c897636f81e597de22a565658dc15808b50e2ceb85072efad"),
    "3-probed": Head(55, "9fbef0341b46e275fd4427d6fcc52779ab3fd197d36479d5a3a9ec5f7144fe0f"),
    "3-drawn": Head(57, "5df8740558e6a810ff2b19512c4666dc30d1df164b6293b35f029a91918ec599"),
    "3-told": Head(57, "c608798a8cba1fbcf0c9649e039e6032213f07705622293d7022141cec72b458"),
    "3-voted": Head(65, "fb9ade2ae196b7d38e7cfa2c0f548bf0b16da3da756f5c07031a7864b38285df"),
    "3-given": Head(69, "13a0c5781293da89739d99ad79b03d58eef07a040945e086a465b1b250b35686"),
    "3-tried": Head(78, "85a8895a3ec93980fc1d6acfe3a531a8c2ecb4b001ef47983b8aa4e2b9051904"),
    "3-pooled": Head(92, "5df0803877f50ad7e8f00ade69d03625a9fc1d9704ff06d8f35318e3a6c9453a"),
}
"""Position and head of each golden log, as they were when it was made. The store's schema leads its name."""
KINDS_OF = {
    "1": "attempts_made attempts_verified episode_failed episode_finished episode_started evaluation_finished gap_measured "
    "goalpost_added iteration_finished iteration_started pass_rate_measured policy_served policy_updated question_accepted "
    "question_proposed question_rejected question_validated reward_given run_finished run_resumed run_started"
}
KINDS_OF["3"] = KINDS_OF["2"] = KINDS_OF["1"]
KINDS_OF["3-pruned"] = KINDS_OF["3"] + " weights_pruned"
KINDS_OF["3-probed"] = KINDS_OF["3-pruned"] + " policy_probed"
KINDS_OF["3-drawn"] = KINDS_OF["3-told"] = KINDS_OF["3-probed"] + " references_drawn"
KINDS_OF["3-voted"] = KINDS_OF["3-drawn"] + " label_voted"
KINDS_OF["3-given"] = KINDS_OF["3-voted"] + " text_given calibration_finished"
KINDS_OF["3-tried"] = KINDS_OF["3-given"] + " trial_started trial_learned trial_examined student_promoted"
KINDS_OF["3-pooled"] = KINDS_OF["3-tried"] + " document_drawn pool_made"
"""Kinds of facts that each golden log holds."""


@pytest.fixture(params=sorted(HEADS))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, SqliteLog]:
    path = tmp_path / "log.sqlite"
    shutil.copy(GOLDEN / f"log-schema-{request.param}.sqlite", path)
    return request.param, open_log(path)


def test_a_golden_log_verifies_and_has_the_head_it_was_made_with(golden: tuple[str, SqliteLog]) -> None:
    name, log = golden
    assert log.verify() is None
    assert log.head() == HEADS[name]


def test_every_event_of_a_golden_log_reads_as_a_fact_of_today(golden: tuple[str, SqliteLog]) -> None:
    name, log = golden
    kinds = {event.fact.kind for event in log.read()}
    assert kinds == set(KINDS_OF[name].split())
    assert kinds <= set(FACT_TYPES)


def test_questions_and_rollouts_of_a_golden_log_read_back(golden: tuple[str, SqliteLog]) -> None:
    _, log = golden
    assert Question.model_validate_json(log.get(BlobHash(next(log.read("goalposts")).fact.blob))) == question(1000)
    for event in log.read(kinds=("attempts_made", "question_proposed")):
        generation = event.fact.generation
        rollouts = unpack_rollouts(log.get(generation.tokens))
        assert len(rollouts.ids) == generation.count
        assert sum(map(len, rollouts.ids)) == generation.length


def test_a_golden_log_folds_to_its_figures(golden: tuple[str, SqliteLog]) -> None:
    name, log = golden
    summary = fold(RunSummary(), log.read())
    assert (summary.finished, summary.resumed, summary.lemmas, summary.lifts) == (True, min(int(name[0]), KEYS_SINCE), 1, 1)
    assert [evaluation.pass_at[1] for evaluation in summary.evaluations] == [0.1, 0.25]


def test_a_golden_log_has_its_keys(golden: tuple[str, SqliteLog]) -> None:
    name, log = golden
    events = log.recorded("run", "resume/2")
    assert (None if events is None else [event.fact.kind for event in events]) == (None if name == "1" else ["run_resumed"])


@pytest.fixture
def first(tmp_path: Path) -> Path:
    path = tmp_path / "log.sqlite"
    shutil.copy(GOLDEN / "log-schema-1.sqlite", path)
    return path


def schema_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_log_of_schema_1_is_read_and_appended_to_as_it_is(first: Path) -> None:
    before = first.read_bytes()
    log = open_log(first)
    assert (len(list(log.read())), log.recorded("run", "k"), log.verify()) == (52, None, None)
    log.close()
    assert first.read_bytes() == before
    log = open_log(first)
    log.append("run", [RunFinished(iterations=1)])
    assert (schema_of(first), log.verify()) == (1, None)


def test_a_log_of_schema_1_takes_keys_from_its_first_one_on(first: Path) -> None:
    log, other = open_log(first), open_log(first)
    appended = log.append("run", [RunFinished(iterations=1)], key="k")
    assert schema_of(first) == KEYS_SINCE
    assert next(log.read(after=51)).head == HEADS["1"].digest
    assert other.recorded("run", "k") == appended
    assert other.append("run", [], key="k") == appended
    assert other.append("run", [RunFinished(iterations=2)], key="l")[0].position == 54
    assert log.verify() is None
    assert open_log(first).verify() is None


def test_an_upgrade_is_part_of_its_append_or_does_not_happen(first: Path) -> None:
    log = open_log(first)
    with pytest.raises(Conflict):
        log.append("run", [RunFinished(iterations=1)], expected=0, key="k")
    assert (schema_of(first), log.verify()) == (1, None)


def test_there_is_a_golden_log_of_the_schema_of_today() -> None:
    newest = [name for name in HEADS if name.startswith(str(SCHEMA_VERSION))][-1]
    with closing(sqlite3.connect(GOLDEN / f"log-schema-{newest}.sqlite")) as db:
        stored = dict(db.execute("SELECT kind, schema_version FROM events"))
    assert stored == {kind: fact.SCHEMA for kind, fact in FACT_TYPES.items()}


def test_a_golden_log_is_never_made_again() -> None:
    with pytest.raises(BadInput, match="never made again"):
        main(GOLDEN / "log-schema-1.sqlite")
