"""Trials in the pocket world: sets are tried, examined and rewarded exactly once, however often the run is cut."""

from __future__ import annotations

from contextlib import closing

import pytest

from events.facts.errors import BadInput, GaspError
from events.facts.log import find_run_started
from events.facts.streams import trial_stream
from events.facts.trial_facts import StudentPromoted, TrialExamined, TrialLearned, TrialStarted
from events.facts.types import (
    AttemptsMade,
    EpisodeFinished,
    EpisodeStarted,
    PolicyServed,
    PolicyUpdated,
    QuestionAccepted,
    RewardGiven,
)
from events.facts.values import SourceLog
from events.stores.memory import MemoryLog
from graph.play.scheduler import make_scheduler
from graph.recipes import RECIPES
from graph.recipes.rewards import RewardSettings
from graph.settings.configure import configure
from graph.setup.assemble import assemble_play, record_goalposts
from graph.setup.folder import create_run
from graph.setup.run_inputs import read_inputs
from roles.models.transformers import TransformersModel
from tests.graph.test_resumed_calls import RecordingLog
from tests.graph.test_whole_recipes import InstantTrainer
from trainer.data.recrediting import recredited_rewards
from trainer.job.update_schedule import TrainingSource, UpdateSchedule
from trainer.learn.loop import Trainer

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SETTINGS = (
    "play.iterations=1", "play.episodes=6", "play.attempts=8", "play.practice=6", "play.practice_attempts=8",
    "play.max_attempts=3", "trials.sets=2", "trials.steps=2", "trials.questions_per_step=2", "trials.questions=2",
    "trials.window=1", "trials.threshold=-1", "evaluate.first=false", "evaluate.questions=1", "evaluate.attempts=1",
    "test=none",
)  # fmt: skip
"""A threshold that every gain exceeds, so that there is a promotion."""


@pytest.fixture(scope="module")
def played(runner, tmp_path_factory):
    """Plays a recipe from an empty log, or from one that was cut."""
    models: dict[str, TransformersModel] = {}

    async def play(recipe: str, log: RecordingLog, folder=None, *more: str):
        config = configure(None, [*SETTINGS, f"recipe={recipe}", *more])
        inputs = read_inputs(config)
        folder = folder or tmp_path_factory.mktemp("runs") / "run"
        if not folder.exists():
            with closing(create_run(folder, config, inputs)) as created:
                start = find_run_started(created)
                log.append("run", [start])
            record_goalposts(log, inputs.goalposts)
        for name in config.policy_of.values():
            if name not in models:
                models[name] = TransformersModel(inputs.model, inputs.digest, max_prompt_tokens=config.max_prompt_tokens)
        parts = {"models": {name: models[name] for name in config.policy_of.values()}, "trainer": InstantTrainer(log, folder)}
        await assemble_play(
            folder, config, log, inputs, runner=runner, scheduler=make_scheduler(config.play.order), **parts
        ).run()
        return folder

    return play


def facts(events, kind):
    return [event.fact for event in events if isinstance(event.fact, kind)]


async def test_a_run_that_was_cut_anywhere_in_its_trials_ends_with_the_head_of_one_that_was_not(played, monkeypatch):
    # All logs share a folder, and what one prunes another still needs.
    monkeypatch.setattr("trainer.learn.prune.remove_weights", lambda store, digests: None)
    whole = RecordingLog()
    folder = await played("soar", whole)
    events = list(whole.read())
    check(events)
    start = find_run_started(whole)
    source = SourceLog(name="run", until=whole.head().position, head=whole.head().digest)
    again = MemoryLog()
    again.append("run", [start.model_copy(update={"sources": (source,)})])
    schedule = UpdateSchedule(again, find_run_started(again), sources=[TrainingSource(whole, source.until)], verify=True)
    list(Trainer(again, folder, schedule).catch_up())
    for name in ("teacher", "student"):
        digests = [[fact.digest for fact in facts(log.read(f"policy/{name}"), PolicyUpdated)] for log in (whole, again)]
        assert digests[0] == digests[1] != []
    # After a step of each kind, within an evaluation, and with some of the episodes rewarded.
    kinds = [{fact.kind for fact in request.facts} for _, request in whole.appends]
    begun, examined, promoted = (kinds.index({kind}) for kind in ("trial_started", "trial_examined", "student_promoted"))
    for cut in (begun + 1, begun + 2, examined, promoted, promoted + 3):
        log = RecordingLog(whole.appends[:cut])
        await played("soar", log, folder)
        assert log.head() == whole.head(), f"after append {cut}: {kinds[cut - 1]}"


def check(events):
    """Each set is tried once; its proposals earn its gain, and the promoted student is served."""
    trials, learned = facts(events, TrialStarted), facts(events, TrialLearned)
    examined, [promoted] = facts(events, TrialExamined), facts(events, StudentPromoted)
    assert [(fact.set, fact.student) for fact in trials] == [(1, 1), (2, 1)]
    assert [(fact.set, fact.digest) for fact in learned] == [(fact.set, fact.policy) for fact in examined]
    started = {event.stream: event.fact.set for event in events if isinstance(event.fact, EpisodeStarted)}
    assert [*started.values()] == [1, 1, 1, 2, 2, 2]
    assert len(facts(events, EpisodeFinished)) == len(started)
    gains = {fact.set: fact.gain for fact in examined}
    accepted = [event for event in events if isinstance(event.fact, QuestionAccepted)]
    earned = [event for event in events if isinstance(event.fact, RewardGiven) and event.fact.role == "teacher"]
    assert sorted(event.stream for event in earned) == sorted(event.stream for event in accepted)
    for event in earned:
        assert event.fact.set == started[event.stream]
        assert event.fact.rewards == (gains[event.fact.set],)
    [update] = [fact for fact in facts(events, PolicyUpdated) if fact.policy == "student"]
    winner = next(fact for fact in learned if fact.set == promoted.set)
    assert promoted.set == max(gains, key=gains.__getitem__)
    assert update.parent != update.digest == promoted.policy == winner.digest
    assert (update.set, update.steps) == (winner.set, winner.steps)
    assert facts(events, PolicyServed)[-1].policy == promoted.policy
    # All are examined on the same goalposts, each once.
    asked = {
        stream: [event.fact.question for event in events if event.stream == stream and isinstance(event.fact, AttemptsMade)]
        for stream in (trial_stream(1, 0, 0), trial_stream(1, promoted.set, 1))
    }
    assert {len(questions) for questions in asked.values()} == {2}
    assert len({tuple(questions) for questions in asked.values()}) == 1


async def test_random_questions_are_tried_without_a_teacher_and_nothing_is_promoted_below_the_threshold(played):
    log = RecordingLog()
    await played("soar_null", log, None, "trials.threshold=1")
    events = list(log.read())
    assert {fact.purpose for fact in facts(events, EpisodeStarted)} == {"practice"}
    assert {fact.role for fact in facts(events, RewardGiven)} == {"student"}
    assert len(facts(events, TrialExamined)) == 2
    assert not facts(events, StudentPromoted)
    assert all(fact.digest == fact.parent for fact in facts(events, PolicyUpdated))


async def test_an_intrinsic_teacher_earns_pass_rates_at_once(played):
    log = RecordingLog()
    await played("soar_intrinsic", log, None, "trials.sets=1")
    events = list(log.read())
    rewards = [event for event in events if isinstance(event.fact, RewardGiven) and event.fact.role == "teacher"]
    [trial] = [event.position for event in events if isinstance(event.fact, TrialStarted)]
    assert rewards
    assert all(event.position < trial and 0 <= event.fact.rewards[0] < 1 for event in rewards)
    # The promoted student is the one that was tried last, whose weights are loaded when it is promoted.
    [promoted] = facts(events, StudentPromoted)
    assert facts(events, PolicyServed)[-1].policy == promoted.policy
    # The recipe of the trials would have given each proposal the gain of its set.
    [examined] = facts(events, TrialExamined)
    again = recredited_rewards(events, RECIPES["soar"](RewardSettings()))
    assert {again[event.stream, event.fact.of] for event in rewards} == {(round(examined.gain, 9),)}
    own = recredited_rewards(events, RECIPES["soar_intrinsic"](RewardSettings()))
    assert all(own[event.stream, event.fact.of] == event.fact.rewards for event in rewards)


async def test_where_no_proposal_can_be_asked_the_run_stops_before_a_trial(played):
    log = RecordingLog()
    with pytest.raises(GaspError, match="No proposal of iteration 1 can be asked"):
        await played("soar", log, None, "play.teacher.max_tokens=2", "play.episodes=2", "play.max_attempts=1")
    assert not facts(log.read(), TrialStarted)


def test_few_goalposts_are_refused_before_anything_is_sampled():
    with pytest.raises(BadInput, match=r"has 100 questions, of which trials draw trials.questions=51 anew .* give 102 or more"):
        read_inputs(configure(None, ["recipe=soar", "trials.questions=51"]))
