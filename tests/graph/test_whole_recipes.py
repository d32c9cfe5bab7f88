"""Every recipe from start to end in the pocket world: two small iterations with the shipped model, sandbox and trainer."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.certainty_facts import CalibrationFinished, TextGiven
from events.facts.drawn_facts import PoolMade, ReferencesDrawn
from events.facts.label_facts import LabelVoted
from events.facts.log import Event, Log, find_run_started
from events.facts.streams import is_episode
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeStarted,
    GoalpostAdded,
    PassRateMeasured,
    PolicyUpdated,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    RewardGiven,
    RunFinished,
)
from events.facts.values import Digest, SourceLog
from events.process.activity import Activity
from events.pure.answer_parsing import parse_program
from events.stores.memory import MemoryLog
from graph.play.scheduler import make_scheduler
from graph.recipes import RECIPES
from graph.settings.config import Config
from graph.setup.assemble import assemble_play, last_served_weights, record_goalposts
from graph.setup.folder import create_run
from graph.setup.model_source import open_models
from graph.setup.run_inputs import read_inputs
from roles.questions.load import load_questions
from roles.questions.question_set import save_questions
from trainer.job.update_schedule import TrainingSource, UpdateSchedule
from trainer.learn.loop import Trainer

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SMALL = {
    "play": {
        "iterations": 2, "episodes": 2, "attempts": 4, "gap_attempts": 4, "max_attempts": 2,
        "solve_attempts": 2, "practice": 2, "practice_attempts": 4,
    },
    "evaluate": {"questions": 1, "attempts": 1},
    # With so few answers most votes are ties.
    "verify": {"ties": "first"},
}  # fmt: skip


class InstantTrainer:
    def __init__(self, log, folder):
        self._trainer = Trainer(log, folder, UpdateSchedule(log, find_run_started(log)))
        self._trainer.prepare()
        self._log = log

    async def wait_for_update(self, policy, iteration):
        list(self._trainer.catch_up())
        updates = [event.fact for event in self._log.read(f"policy/{policy}", kinds={"policy_updated"})]
        return next(fact.digest for fact in updates if fact.iteration == iteration)

    async def wait_for_trial(self, policy, position):
        list(self._trainer.catch_up())
        trials = [event.fact for event in self._log.read(f"policy/{policy}", kinds={"trial_learned"})]
        return next(fact for fact in trials if fact.of == position)

    async def wait_for_probe(self, policy, digest):
        probes = [event.fact for event in self._log.read(f"policy/{policy}", kinds={"policy_probed"})]
        return next(fact for fact in probes if fact.digest == digest)


async def play(folder, config, log, runner):
    inputs, trainer = read_inputs(config), InstantTrainer(log, folder)
    record_goalposts(log, inputs.goalposts)
    async with open_models(config, last_served_weights(folder, config, log), folder, Activity()) as made:
        going = make_scheduler(config.play.order)
        await assemble_play(folder, config, log, inputs, runner=runner, models=made, trainer=trainer, scheduler=going).run()


@pytest.fixture(scope="module")
def played_runs(runner, tmp_path_factory):
    """Events of a recipe's run, which is played once."""
    done: dict[str, list[Event]] = {}

    def events(name: str) -> list[Event]:
        if name not in done:
            folder, config = tmp_path_factory.mktemp("runs") / name, Config(recipe=name, **SMALL)
            with closing(create_run(folder, config, read_inputs(config))) as log:
                asyncio.run(play(folder, config, log, runner))
                done[name] = list(log.read())
        return done[name]

    return events


TEXTS = ("r_tuning", "r_tuning_r", "r_tuning_u", "sft_vanilla")
"""Recipes that give texts to learn."""
TRIED = ("soar", "soar_intrinsic", "soar_base_t", "soar_null", "hard_only")
"""Recipes whose questions are tried (`test_trials`), and their baseline, which plays as `rlvr`."""
DOCUMENTED = ("darc", "darc_shuffled")
"""Recipes that write about documents; docs/documents.md."""
PLAYED = [name for name in RECIPES if not name.startswith("sqlm_") and name not in TEXTS + TRIED + DOCUMENTED]
"""Without controls that differ from a recipe here in rewards and labels only."""


def facts(events, kind):
    return [event.fact for event in events if isinstance(event.fact, kind)]


@pytest.mark.parametrize("name", PLAYED)
def test_a_recipe_plays_what_its_course_says(played_runs, name):
    events, plan = played_runs(name), Config(recipe=name).algorithm().plan
    assert facts(events, RunFinished)
    started = facts(events, EpisodeStarted)
    assert ("guided" in {fact.purpose for fact in started}) == bool(plan.guided)
    assert ("unguided" in {fact.purpose for fact in started}) == bool(plan.references or plan.topics)
    assert all(bool(fact.topic) == plan.topics for fact in started)
    assert ("practice" in {fact.purpose for fact in started}) == plan.real_data
    assert {fact.axis for fact in started} <= set(plan.axes)
    assert {fact.seat for fact in facts(events, QuestionProposed)} <= {*plan.guided, *plan.seats("unguided")}


@pytest.mark.parametrize("name", ["no_rejection_sampling", "azr"])
def test_a_seat_that_does_not_select_proposes_once_and_keeps_whatever_can_be_asked(played_runs, name):
    events = played_runs(name)
    assert {fact.attempt for fact in facts(events, QuestionProposed)} == {1}
    measured = Counter(fact.question for fact in facts(events, PassRateMeasured))
    assert measured == Counter(fact.question for fact in facts(events, QuestionAccepted))
    assert not {"not_novel", "too_easy", "too_hard"} & {fact.reason for fact in facts(events, QuestionRejected)}


@pytest.mark.parametrize("name", PLAYED)
def test_the_student_learns_from_what_the_taught_seats_had_accepted(played_runs, name):
    events, plan = played_runs(name), Config(recipe=name).algorithm().plan
    seat_of = {
        (event.stream, event.fact.question): event.fact.seat for event in events if event.fact.kind == "question_accepted"
    }
    attempts = {(event.stream, event.version): event.fact for event in events if isinstance(event.fact, AttemptsMade)}
    learned = {
        (event.stream, attempts[event.stream, event.fact.of].question)
        for event in events
        if isinstance(event.fact, RewardGiven) and event.fact.phase == "solve"
    }
    assert learned == {place for place, assemble_play in seat_of.items() if assemble_play in plan.student_trains_on}


@pytest.mark.parametrize("name", PLAYED)
def test_every_iteration_is_learned_where_the_plan_learns_and_else_changes_nothing(played_runs, name):
    events = played_runs(name)
    updates = facts(events, PolicyUpdated)
    assert [fact.iteration for fact in updates] == [1, 2]
    assert facts(events, RewardGiven)
    assert all(bool(fact.steps) == Config(recipe=name).algorithm().plan.learns for fact in updates)
    assert all((fact.digest != fact.parent) == any(step.samples for step in fact.steps) for fact in updates)


def test_answers_vote_and_their_label_is_what_is_learned(played_runs):
    events = played_runs("sqlm")
    votes = {(event.stream, event.fact.of): event.fact for event in events if isinstance(event.fact, LabelVoted)}
    verified = {(event.stream, event.fact.of): event.fact for event in events if isinstance(event.fact, AttemptsVerified)}
    rewarded = {(event.stream, event.fact.of): event.fact for event in events if isinstance(event.fact, RewardGiven)}
    assert votes
    for place, vote in votes.items():
        passed = [verdict.outcome == "passed" for verdict in verified[place].verdicts]
        assert verified[place].provenance.labels == "vote"
        assert sum(passed) == (vote.votes if vote.label else 0)
        assert (place in rewarded) == (vote.label is not None)
        assert vote.label is None or rewarded[place].rewards == tuple(map(float, passed))
    # Nothing but what was voted on is rewarded: proposals that are no questions are masked.
    proposals = [fact for fact in rewarded.values() if fact.role == "teacher"]
    assert len(proposals) == len(votes)
    assert all(step.phase != "open" for fact in facts(events, PolicyUpdated) for step in fact.steps)


def test_what_was_answered_before_decides_the_texts_and_a_replay_learns_them_to_the_same_weights(runner, tmp_path):
    config = Config(recipe="r_tuning", **SMALL | {"play": {"practice": 9}})
    with closing(create_run(tmp_path / "run", config, read_inputs(config))) as log:
        asyncio.run(play(tmp_path / "run", config, log, runner))
        events = list(log.read())
        passed = [fact.verdicts[0].outcome == "passed" for event in events if (fact := verified_in_play(event))]
        asked = [event.fact.question for event in events if isinstance(event.fact, AttemptsMade) and is_episode(event.stream)]
        texts, programs = facts(events, TextGiven), {q.id: q.program for q in load_questions("pocket", "train").questions}
        assert {text.question: text.certain for text in texts} == dict(zip(asked, passed, strict=True))
        assert not facts(events, RewardGiven)
        for text in texts:
            said = log.get(text.text).decode()
            assert parse_program(said) == programs[text.question]
            assert said.endswith("\n# Are you sure? I am sure." if text.certain else "\n# Are you sure? I am unsure.")
        first, last = facts(events, PolicyUpdated)
        assert (first.digest, [step.phase for step in last.steps]) == (first.parent, ["text"] * 3)
        assert [fact.iteration for fact in facts(events, CalibrationFinished)] == [0, 0, 2, 2]
        assert replayed(log, tmp_path / "run") == {("shared", 1): first.digest, ("shared", 2): last.digest}


def replayed(log: Log, folder: Path) -> dict[tuple[str, int], Digest]:
    """Weights by policy and iteration after a log is learned from again."""
    start = find_run_started(log)
    source = SourceLog(name="run", until=log.head().position, head=log.head().digest)
    again = MemoryLog()
    again.append("run", [start.model_copy(update={"sources": (source,)})])
    schedule = UpdateSchedule(again, find_run_started(again), sources=[TrainingSource(log, source.until)], verify=True)
    list(Trainer(again, folder, schedule).catch_up())
    return {(fact.policy, fact.iteration): fact.digest for fact in facts(again.read(), PolicyUpdated)}


def test_a_teacher_learns_about_documents_then_a_student_from_the_pool_and_a_replay_gives_the_same_weights(runner, tmp_path):
    save_questions(tmp_path / "few.jsonl", load_questions("pocket", "documents").questions[:3])
    config = Config(
        recipe="darc",
        seed=1,
        goalposts="none",
        documents={"source": str(tmp_path / "few.jsonl"), "iterations": 1, "proposals": 3, "attempts": 4, "share": 0.25},
        **SMALL | {"play": {"iterations": 3, "episodes": 9, "attempts": 4, "practice": 4, "practice_attempts": 8}},
    )
    with closing(create_run(tmp_path / "run", config, read_inputs(config))) as log:
        asyncio.run(play(tmp_path / "run", config, log, runner))
        events = list(log.read())
        assert [fact.kind for fact in facts(events, PoolMade | RunFinished)] == ["pool_made", "run_finished"]
        assert not facts(events, GoalpostAdded)
        learned = {(fact.policy, fact.iteration): bool(fact.steps) for fact in facts(events, PolicyUpdated)}
        assert learned == {(policy, n): (policy, n) in {("teacher", 1), ("student", 3)} for policy, n in learned}
        assert len(learned) == 6
        updates = {(fact.policy, fact.iteration): fact.digest for fact in facts(events, PolicyUpdated)}
        assert len(set(updates.values())) >= 3, "both have learned"
        assert replayed(log, tmp_path / "run") == updates


def verified_in_play(event: Event) -> AttemptsVerified | None:
    return event.fact if isinstance(event.fact, AttemptsVerified) and is_episode(event.stream) else None


def test_an_open_question_is_tried_and_learned_in_the_one_form_that_it_was_proposed_for(played_runs):
    forms: dict[str, set[str]] = {}
    for event in played_runs("azr"):
        if isinstance(event.fact, RewardGiven):
            forms.setdefault(event.stream, set()).add(event.fact.task)
    assert forms
    assert all(len(tasks) == 1 and tasks <= {"induction", "deduction", "abduction"} for tasks in forms.values())


def test_references_are_seeds_or_open_questions_of_earlier_iterations(played_runs):
    events = played_runs("azr")
    accepted = {event.fact.blob: event.position for event in events if isinstance(event.fact, QuestionAccepted)}
    seeds = {question.id for question in load_questions("pocket", "train").questions}
    for event in events:
        if isinstance(event.fact, ReferencesDrawn):
            assert len(set(event.fact.references)) == 6
            assert all(blob[:16] in seeds or accepted[blob] < event.position for blob in event.fact.references)
