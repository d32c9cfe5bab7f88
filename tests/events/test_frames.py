"""Tables of a run: what is in them is what is in the log, and what the trainer sees."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from events.export import frames
from events.export.table_rows import TABLES, attempts
from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Log, find_run_started
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, EpisodeFailed, IterationStarted, PolicyUpdated, QuestionProposed
from events.facts.values import Generation
from events.maintenance import migrate
from events.stores import open_log
from events.stores.memory import MemoryLog
from tests.support.example_runs import ExampleRun, example_run, question
from tests.support.training_samples import sample_digest
from trainer.data import replay
from trainer.data.replay import Cursor


def record_example(log: Log) -> ExampleRun:
    """Two iterations with everything in them, and an episode that goes on."""
    tale = example_run(log).run(recipe="gasp", seed=0).goalpost(2).evaluate("goalposts").start(4)
    tale.episode(rejected=["degenerate", "too_easy"]).fail().practice()
    tale.open(question(50), "practice")
    tale.reward(tale.attempt("practice", question(50), 1, 3), "practice", "student", "induction", [1.0, 0.0, 0.0])
    log.append(tale.stream, [EpisodeFailed(error="SandboxError", message="gone")])
    tale.finish().update().start(2).episode(lift=None, task="induction").episode(lemma=None).finish().update()
    tale.evaluate().start().open(tale.goalposts[0], "guided")
    tale.attempt("gap", tale.goalposts[0], 0, 2)
    return tale


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    log = MemoryLog()
    record_example(log)
    return log


def generated(log: Log) -> dict[tuple[str, int], Generation]:
    facts = {(event.stream, event.version): event.fact for event in log.read(kinds=("question_proposed", "attempts_made"))}
    return {place: fact.generation for place, fact in facts.items() if isinstance(fact, QuestionProposed | AttemptsMade)}


def test_every_completion_that_was_sampled_is_a_row(log: MemoryLog) -> None:
    frame, made = frames.attempts(log), generated(log)
    assert frame.height == sum(generation.count for generation in made.values())
    assert frame.select("stream", "version", "index").is_unique().all()
    for row in frame.iter_rows(named=True):
        generation = made[row["stream"], row["version"]]
        rollouts = unpack_rollouts(log.get(generation.tokens))
        assert row["completion"] == json.loads(log.get(generation.texts))[row["index"]]
        assert row["prompt"] == log.get(generation.prompt).decode()
        assert row["prompt_ids"] == rollouts.prompt.tolist()
        assert row["completion_ids"] == rollouts.ids[row["index"]].tolist()
        assert (row["policy"], row["seed"], row["template"]) == (generation.policy, generation.seed, generation.template)
        assert {**generation.sampling.model_dump(), "stop": list(generation.sampling.stop)}.items() <= row.items()


def test_every_verdict_stands_with_its_completion(log: MemoryLog) -> None:
    frame = frames.attempts(log)
    verdicts = {
        (event.stream, event.fact.of, index): tuple(verdict.model_dump().values())
        for event in log.read(kinds=("attempts_verified",))
        if isinstance(event.fact, AttemptsVerified)
        for index, verdict in enumerate(event.fact.verdicts)
    }
    judged = frame.filter(pl.col("outcome").is_not_null())
    columns = judged.select("stream", "version", "index", "outcome", "passed", "total", "detail", "tests").iter_rows()
    assert {row[:3]: row[3:] for row in columns} == verdicts
    assert set(judged["container"]) == {"sha256:0"}
    assert set(frame.filter(pl.col("outcome").is_null())["purpose"]) == {"proposal"}


def test_the_rows_to_learn_from_are_bit_for_bit_what_the_trainer_replays(log: MemoryLog) -> None:
    frame, after = frames.attempts(log), 0
    while (end := replay.next_finished_iteration(log, after)) is not None:
        start = next(event.fact for event in log.read(after=after, kinds=("iteration_started",)))
        assert isinstance(start, IterationStarted)
        place = Cursor("shared", start.policies["student"], until=after, step=0, version=0)
        window = replay.iteration_rollouts(log, place, end)
        assert len(window.groups) > 1
        assert sample_digest(frame, after, end.position) == window.digest
        after = end.position
    assert after


def test_questions_tell_what_became_of_every_proposal(log: MemoryLog) -> None:
    frame = frames.questions(log)
    assert Counter(frame["origin"]) == {"goalpost": 2, "lemma": 5, "lift": 2, "practice": 2}
    first = frame.filter(pl.col("stream") == "episode/00001/000")
    assert first.select("origin", "attempt", "accepted", "reason", "successes", "pass_rate", "reward").rows() == [
        ("lemma", 1, False, "degenerate", None, None, -1.0),
        ("lemma", 2, False, "too_easy", None, None, -1.0),
        ("lemma", 3, True, None, 5, 0.5, 0.75),
        ("lift", 1, True, None, 2, 0.2, 0.6),
    ]
    lemma, lift = first.filter(pl.col("accepted")).iter_rows(named=True)
    assert (lemma["parent"], lift["parent"]) == (question(1000).id, lemma["question"])
    assert (lemma["program"], lemma["private"]) == (
        question(101).program,
        [pair.model_dump() for pair in question(101).private],
    )
    assert (lemma["ending"], lemma["aligned"], lemma["similarity"]) == ("played", True, 0.25)


def test_a_proposal_and_its_completion_have_the_same_place(log: MemoryLog) -> None:
    proposals = frames.questions(log).filter(pl.col("seat").is_not_null())
    joined = proposals.join(frames.attempts(log), on=["stream", "version"])
    assert joined.height == proposals.height
    assert set(joined["role"]) == {"teacher"}
    assert joined.filter(pl.col("task") != pl.col("seat")).is_empty()
    assert joined.filter(pl.col("reward") != pl.col("reward_right")).is_empty()


def test_updates_name_what_they_learned_from_and_what_learned(log: MemoryLog) -> None:
    frame = frames.updates(log)
    facts = [event.fact for event in log.read(kinds=("policy_updated",)) if isinstance(event.fact, PolicyUpdated)]
    assert frame["digest"].to_list() == [fact.digest for fact in facts]
    assert frame["parent"].to_list()[1:] == frame["digest"].to_list()[:-1]
    columns = ("samples", "groups", "reward", "lemma/loss", "lemma/kl", "lemma/samples")
    assert frame.select(columns).rows() == [(30, 4, 0.25, 0.5, 0.01, 30.0)] * 2
    learned = frames.attempts(log).filter(pl.col("phase").is_not_null()).join(frame, on="iteration", suffix="_of_update")
    assert learned.filter(pl.col("policy") != pl.col("parent")).is_empty()


def test_metrics_of_any_update_are_columns_of_all() -> None:
    log = MemoryLog()
    tale = example_run(log).run().start().finish().update()
    (fact,) = (event.fact for event in log.read("policy/shared"))
    assert isinstance(fact, PolicyUpdated)
    step = fact.steps[0].model_copy(update={"phase": "solve", "metrics": {"entropy": 2.0}})
    log.append("policy/shared", [fact.model_copy(update={"steps": (step,)}), fact.model_copy(update={"steps": ()})])
    tale.end()
    assert frames.updates(log).select("lemma/loss", "solve/entropy", "reward").rows() == [
        (0.5, None, 0.25),
        (None, 2.0, 0.25),
        (None, None, None),
    ]


def test_gaps_are_measured_by_episodes_and_by_evaluations_of_goalposts() -> None:
    log = MemoryLog()
    tale = example_run(log).run().goalpost().start().episode(gap_successes=1).finish()
    tale.goalposts.append(question(1))
    tale.update().evaluate()
    assert frames.gaps(log).select("iteration", "gap", "best_share", "policy").rows() == [
        (1, 0.9, 1.0, find_run_started(log).policies["student"])
    ]
    log.append("goalposts", [event.fact.model_copy(update={"question": question(1).id}) for event in log.read("goalposts")])
    tale.evaluate("goalposts")
    assert frames.gaps(log).select("iteration", "gap", "best_share", "policy").row(-1) == (
        1,
        0.9,
        None,
        tale.policies["student"],
    )


def test_what_goes_on_is_there_without_an_end(log: MemoryLog) -> None:
    last = frames.attempts(log).filter(pl.col("stream") == "episode/00003/000")
    assert (last.height, set(last["ending"]), set(last["iteration"])) == (2, {None}, {3})
    open_log = MemoryLog()
    tale = example_run(open_log).run().goalpost().start().open(question(1000), "guided")
    tale.reject("easy", 1, question(1000), "unsafe").propose("easy", 2, question(1000), 3, 10)
    assert frames.questions(open_log).filter(pl.col("seat") == "easy")["ending"].to_list() == [None, None]


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_log_gives_empty_frames_with_all_columns(table: str) -> None:
    frame = getattr(frames, table)(MemoryLog())
    assert frame.is_empty()
    assert set(frame.columns) == set(TABLES[table].row.model_fields) - {"metrics"}


def test_a_run_is_a_folder_a_file_a_url_or_an_open_log(tmp_path: Path, postgres: str, log: MemoryLog) -> None:
    folder, url = tmp_path / "first", f"{postgres}?run=frames"
    with closing(open_log(folder / "log.sqlite", create=True)) as copy, closing(open_log(url, create=True)) as database:
        record_example(copy)
        migrate(copy, database)
        open_frame = frames.questions(copy)
        assert copy.head().position > 0
    for run, name in ((folder, "first"), (str(folder / "log.sqlite"), "first"), (url, "frames")):
        frame = frames.questions(run)
        assert set(frame["run"]) == {name}
        assert frame.drop("run").equals(open_frame.drop("run"))
    with pytest.raises(BadInput, match="There is no log"):
        frames.updates(tmp_path)


def test_a_log_that_grows_meanwhile_is_read_up_to_one_position(log: MemoryLog) -> None:
    growing = MemoryLog()
    tale = example_run(growing).run().goalpost().play()
    until = growing.head().position
    rows = attempts(growing, "run", until)
    first = next(rows)
    tale.play()
    assert [first, *rows][-1].position <= until


def test_text_that_no_format_can_hold_is_replaced_and_all_other_text_stays() -> None:
    log = MemoryLog()
    tale = example_run(log).run().start().open(question(1), "practice")
    generation = tale.generation("x", 2)
    hostile = ["\ud800half", "\x00\x1b[31m\u2028\U0001f600\r\n"]
    changed = {"prompt": log.put(b"a\xed\xa0\x80b\x00"), "texts": log.put(json.dumps(hostile).encode())}
    fact = AttemptsMade(
        purpose="practice", question=question(1).id, task="induction", generation=generation.model_copy(update=changed)
    )
    log.append(tale.stream, [fact])
    frame = frames.attempts(log)
    assert frame["completion"].to_list() == ["\N{REPLACEMENT CHARACTER}half", hostile[1]]
    assert frame["prompt"][0] == "a\N{REPLACEMENT CHARACTER}b\x00"


def test_a_log_that_contradicts_itself_is_an_error() -> None:
    log = MemoryLog()
    tale = example_run(log).run().start().open(question(1), "practice")
    made = tale.attempt("practice", question(1), 1, 3)
    tale.reward(made, "practice", "student", "induction", [1.0])
    with pytest.raises(LogCorrupt, match=f"Position {made.position} has 3 completions.*run verify"):
        frames.attempts(log)


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(BadInput, match=r"needs polars, which is not installed; run `pip install 'gasp\[data\]'`"):
        frames.attempts(MemoryLog())


def test_every_column_says_what_it_means() -> None:
    assert not [name for table in TABLES.values() for name, field in table.row.model_fields.items() if not field.description]
