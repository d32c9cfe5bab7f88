"""Which weights may go: decided from the log alone, told in the log, and done again after a crash."""

import shutil
from pathlib import Path

import pytest

from events.facts.log import find_run_started
from events.facts.types import EvaluationFinished, IterationStarted, PolicyServed, PolicyUpdated
from events.facts.values import Digest, Sampling
from events.facts.weight_facts import WeightsPruned
from events.stores.memory import MemoryLog
from graph.settings.config import LearnSettings
from tests.support.example_runs import START_WEIGHTS, ExampleRun, example_run, policy_updated
from tests.support.tiny_model import TinyModelRun, tiny_weights
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn import prune
from trainer.learn.loop import Trainer


def record_updates(updates: int, **learn) -> tuple[ExampleRun, list[Digest]]:
    """A run whose policy was updated so many times and has played on, and its weights from the first on."""
    tale = example_run(MemoryLog()).run(learn=learn).goalpost()
    chain = [START_WEIGHTS]
    for _ in range(updates):
        tale.start().fail().finish().update()
        chain.append(tale.policies["student"])
    tale.start().fail().finish()
    return tale, chain


def pruned_digests(tale: ExampleRun, **keep) -> list[Digest]:
    """What may go with one more update."""
    update = policy_updated(iteration=tale.iteration, after=0, until=0, parent=tale.policies["student"])
    return list(prune.prunable_digests(tale.log.read(kinds=prune.KINDS), update, LearnSettings(**keep)))


def evaluation_finished(tale: ExampleRun, digest: Digest, rate: float, name: str = "test") -> None:
    fact = EvaluationFinished(
        name=name, iteration=1, policy=digest, sampling=Sampling(), attempts=20, successes={}, pass_at={1: rate, 10: 1.0}
    )
    tale.log.append("evaluation", [fact])


def test_the_newest_stay_and_the_first_and_the_parent() -> None:
    tale, chain = record_updates(5)
    assert pruned_digests(tale, keep=1) == chain[1:5]
    assert pruned_digests(tale, keep=2) == chain[1:5]
    assert pruned_digests(tale, keep=3) == chain[1:4]
    assert pruned_digests(tale, keep=9) == []


def test_every_so_many_iterations_weights_stay() -> None:
    tale, chain = record_updates(7)
    assert pruned_digests(tale, keep=1, keep_every=3) == [chain[n] for n in (1, 2, 4, 5)]


def test_the_best_on_the_set_of_that_name_stay() -> None:
    tale, chain = record_updates(6)
    for n, rate in ((1, 0.2), (2, 0.6), (3, 0.4), (6, 0.5)):
        evaluation_finished(tale, chain[n], rate)
    evaluation_finished(tale, chain[4], 0.9, "goalposts")
    assert pruned_digests(tale, keep=1, keep_best="test") == [chain[n] for n in (1, 3, 4, 5)]
    assert pruned_digests(tale, keep=1, keep_best="goalposts") == [chain[n] for n in (1, 2, 3, 5)]
    assert pruned_digests(tale, keep=1) == chain[1:6]


def test_what_play_uses_and_what_it_still_has_to_take_up_stay() -> None:
    tale, chain = record_updates(6)
    tale.log.append("run", [PolicyServed(role="teacher", policy=chain[2])])
    tale.log.append("run", [IterationStarted(iteration=9, policies={"teacher": chain[2], "student": chain[3]}, episodes=1)])
    assert pruned_digests(tale, keep=1) == [chain[n] for n in (1, 4, 5)]
    assert pruned_digests(tale, keep=1, staleness=2) == [chain[n] for n in (1, 4)]


def test_each_policy_keeps_its_own() -> None:
    log = MemoryLog()
    example_run(log).run()
    chains: dict[str, list[Digest]] = {"teacher": [START_WEIGHTS], "student": [START_WEIGHTS]}
    for iteration in range(1, 5):
        for name, chain in chains.items():
            fact = policy_updated(iteration=iteration, after=0, until=0, parent=chain[-1], policy=name)
            log.append(f"policy/{name}", [fact])
            chain.append(fact.digest)
    next_one = policy_updated(iteration=5, after=0, until=0, parent=chains["teacher"][-1], policy="teacher")
    digests = prune.prunable_digests(log.read(), next_one, LearnSettings(keep=1))
    assert set(digests) == {*chains["teacher"][1:4], *chains["student"][1:3]}


def test_what_is_given_up_is_given_up_once_unless_it_is_made_again() -> None:
    tale, chain = record_updates(5)
    tale.log.append("policy/shared", [WeightsPruned(digests=(chain[1], chain[2]))])
    assert pruned_digests(tale, keep=1) == [chain[3], chain[4]]
    assert prune.pruned_digests(tale.log.read(), LearnSettings()) == (chain[1], chain[2])
    tale.update(chain[2])
    assert prune.pruned_digests(tale.log.read(), LearnSettings()) == (chain[1],)


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, TinyModelRun]:
    (tmp_path / "weights").mkdir()
    digest = tiny_weights(tmp_path / "weights")
    return tmp_path, TinyModelRun(MemoryLog(), tmp_path / "weights", digest).run(learn={"keep": 1, "staleness": 0}).goalpost(2)


def trainer(run: Path, tale: TinyModelRun) -> Trainer:
    start = find_run_started(tale.log)
    assert start is not None
    return Trainer(tale.log, run, UpdateSchedule(tale.log, start))


def learn(run: Path, tale: TinyModelRun) -> PolicyUpdated:
    """One more iteration by the newest weights; a new trainer learns it."""
    [event] = trainer(run, tale.play()).catch_up()
    assert isinstance(event.fact, PolicyUpdated)
    tale.load_weights(run / "weights", event.fact.digest)
    return event.fact


def test_giving_up_is_a_fact_beside_the_update_and_the_files_go(run) -> None:
    folder, tale = run
    made = [learn(folder, tale) for _ in range(4)]
    pruned = list(tale.log.read(kinds=("weights_pruned",)))
    assert [event.fact.digests for event in pruned] == [(made[0].digest,), (made[1].digest,)]
    assert [next(tale.log.read(after=event.position - 3, limit=1)).fact for event in pruned] == [made[2], made[3]]
    assert {path.name for path in (folder / "weights").iterdir()} == {made[0].parent, made[2].digest, made[3].digest}


def test_a_crash_before_the_files_went_is_made_good_at_the_next_start(run) -> None:
    folder, tale = run
    first = learn(folder, tale)
    shutil.copytree(folder / "weights" / first.digest, folder / "copy")
    shutil.copytree(folder / "copy", folder / "weights" / "mine")
    learn(folder, tale)
    learn(folder, tale)
    assert not (folder / "weights" / first.digest).exists()
    shutil.copytree(folder / "copy", folder / "weights" / first.digest)
    trainer(folder, tale)
    trainer(folder, tale)
    assert not (folder / "weights" / first.digest).exists()
    assert (folder / "weights" / "mine").is_dir()


def test_pruning_changes_no_weights(run, tmp_path) -> None:
    folder, tale = run
    other = tmp_path / "other"
    (other / "weights").mkdir(parents=True)
    digest = tiny_weights(other / "weights")
    keeping = TinyModelRun(MemoryLog(), other / "weights", digest).run(learn={"keep": 9, "staleness": 0}).goalpost(2)
    assert [learn(folder, tale).digest for _ in range(3)] == [learn(other, keeping).digest for _ in range(3)]
