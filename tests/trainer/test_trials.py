"""Trials as the trainer makes them: students that are trained apart from the policy, and one of them promoted."""

import gc
import shutil
from pathlib import Path

import pytest

from events.facts.log import Event, find_run_started
from events.facts.trial_facts import TrialLearned
from events.facts.types import PolicyUpdated, WeightsPruned
from events.facts.values import SourceLog
from events.facts.weights import weights_digest
from events.projections.lineage import consumed
from events.stores.memory import MemoryLog
from tests.support.tiny_model import TinyModelRun, tiny_weights
from trainer.data.replay import iteration_rollouts
from trainer.job.update_schedule import TrainingSource, UpdateSchedule
from trainer.learn.loop import Trainer
from trainer.learn.loss import PolicyLoss


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    tiny_weights(folder)
    return folder


@pytest.fixture
def example(store, tmp_path) -> TinyModelRun:
    """An iteration with two questions in each of two sets, of which nothing is tried yet."""
    shutil.copytree(store, tmp_path / "run" / "weights")
    (first,) = store.iterdir()
    example = TinyModelRun(MemoryLog(), store, first.name).run(recipe="soar", policies="separate").goalpost()
    example.start(4).in_set(1).practice(passing=3).practice(passing=5).in_set(2).practice(passing=2).practice(passing=6)
    return example


def trainer(example: TinyModelRun, folder: Path) -> Trainer:
    return Trainer(example.log, folder / "run", UpdateSchedule(example.log, find_run_started(example.log)))


def tried(example: TinyModelRun, folder: Path, number: int, **trial: int) -> tuple[Event, TrialLearned]:
    """A trial of a set, and what it comes to in a trainer that knows nothing but the log."""
    begun = example.begin_trial(number, **trial)
    [event] = trainer(example, folder).catch_up()
    assert isinstance(event.fact, TrialLearned)
    assert (event.fact.of, event.stream) == (begun.position, "policy/student")
    return begun, event.fact


def updates(log: MemoryLog, name: str) -> list[PolicyUpdated]:
    return [event.fact for event in log.read(f"policy/{name}", kinds=("policy_updated",))]


def test_a_trial_begins_with_the_policy_and_leaves_it_as_it_was(example, tmp_path) -> None:
    start = example.policies["student"]
    first, second, again = (tried(example, tmp_path, number)[1] for number in (1, 2, 1))
    assert {trial.parent for trial in (first, second, again)} == {start}
    # Equal attempts and equal weights make equal weights, whatever was tried in between.
    assert (again.digest, again.samples) == (first.digest, first.samples)
    assert len({start, first.digest, second.digest}) == 3
    assert weights_digest(tmp_path / "run" / "weights" / first.digest) == first.digest
    list(trainer(example.finish(), tmp_path).catch_up())
    [update] = updates(example.log, "student")
    assert (update.digest, update.steps, update.set) == (start, (), 0)
    assert list(consumed(example.log, update)) == []
    [pruned] = [event.fact for event in example.log.read(kinds=("weights_pruned",))]
    assert isinstance(pruned, WeightsPruned)
    assert {*pruned.digests} == {first.digest, second.digest}
    assert {path.name for path in (tmp_path / "run" / "weights").iterdir()} == {start}


def test_memory_holds_one_student_however_many_were_tried(example, tmp_path) -> None:
    def losses() -> int:
        return sum(type(each) is PolicyLoss for each in gc.get_objects())

    gc.collect()
    before, learner = losses(), trainer(example, tmp_path)
    # Python may collect late or never; the trainer must not depend on it.
    gc.disable()
    try:
        for number in (1, 2, 1):
            example.begin_trial(number)
            list(learner.catch_up())
        alive = losses()
    finally:
        gc.enable()
    assert alive - before == 1


def test_steps_are_as_many_as_the_trial_has_and_its_batches_come_again(example, tmp_path) -> None:
    _, trial = tried(example, tmp_path, 1, steps=3)
    assert [(step.phase, step.groups) for step in trial.steps] == [("practice", 2)] * 3


def test_students_of_a_set_learn_from_disjoint_attempts_that_are_all_of_them(example) -> None:
    log, start = example.log, find_run_started(example.log)
    cursor = UpdateSchedule(log, start).cursor("student")
    parts = [iteration_rollouts(log, cursor, example.begin_trial(2, student=n, students=2)).groups for n in (1, 2)]
    indices = [[rollout.index for group in groups for rollout in group.rollouts] for groups in parts]
    assert indices == [[0, 2, 4, 6] * 2, [1, 3, 5, 7] * 2]
    assert all(len(group.rewards) == len(group.rollouts) == 4 for groups in parts for group in groups)


def test_the_promoted_student_becomes_the_policy_and_a_replay_makes_it_again(example, tmp_path) -> None:
    start = example.policies["student"]
    (_, first), (begun, second) = tried(example, tmp_path, 1), tried(example, tmp_path, 2)
    example.promote(begun, second.digest)
    list(trainer(example.finish(), tmp_path).catch_up())
    [update] = updates(example.log, "student")
    assert (update.parent, update.digest, update.set, update.steps) == (start, second.digest, 2, second.steps)
    assert {event.fact.set for event in consumed(example.log, update)} == {2}
    assert (tmp_path / "run" / "weights" / second.digest).is_dir()
    assert not (tmp_path / "run" / "weights" / first.digest).exists()
    [again] = replayed(example, tmp_path)
    assert (again.digest, again.samples, again.set) == (update.digest, update.samples, 2)


def replayed(example: TinyModelRun, folder: Path) -> list[PolicyUpdated]:
    head = example.log.head()
    source = SourceLog(name="run", until=head.position, head=head.digest)
    log = MemoryLog()
    log.append("run", [find_run_started(example.log).model_copy(update={"sources": (source,)})])
    sources = [TrainingSource(example.log, head.position)]
    schedule = UpdateSchedule(log, find_run_started(log), sources=sources, verify=True)
    list(Trainer(log, folder / "run", schedule).catch_up())
    return updates(log, "student")
