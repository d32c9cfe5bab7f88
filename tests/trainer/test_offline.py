"""Learning from recorded runs: the same bits as live, other credit, several logs, and what diverges is named."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.cli.app import open_run
from events.facts.errors import BadInput, ReplayDiverged
from events.facts.log import Log, find_run_started
from events.facts.types import PassRateMeasured, PolicyUpdated, RewardGiven, RunFinished
from events.facts.values import Digest
from events.stores.memory import MemoryLog
from graph.recipes.gasp import Gasp
from graph.setup.folder import reopen_run
from tests.support.example_runs import example_run
from tests.support.processes import start_command, wait_until
from tests.trainer.test_run import ROOT, play, updates
from trainer.data import recrediting
from trainer.job import offline
from trainer.job.dry_run import describe_updates
from trainer.job.offline import OfflinePlan
from trainer.job.update_schedule import TrainingSource, UpdateSchedule
from trainer.learn.loop import Trainer
from trainer.run import app

ITERATIONS = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A run that was played, and learned as it should be."""
    run = play(tmp_path_factory.mktemp("recorded") / "old", iterations=ITERATIONS)
    with closing(open_run(str(run))) as log:
        learn(log, run)
    return run


def learn(log: Log, run: Path, sources: Sequence[TrainingSource] = (), *, verify: bool = False, most: int = 99) -> None:
    start = find_run_started(log)
    assert start is not None
    trainer = Trainer(log, run, UpdateSchedule(log, start, sources=sources, verify=verify))
    for count, _ in enumerate(trainer.catch_up(), 1):
        if count == most:
            return
    trainer.finish()


def train(folder: Path, plan: OfflinePlan, *, verify: bool = False, most: int = 99) -> list[PolicyUpdated]:
    with (
        offline.open_sources([source.path for source in plan.sources]) as sources,
        closing(offline.open_or_create(folder, plan)) as log,
    ):
        learn(log, folder, replace(plan, sources=sources).training_sources(), verify=verify, most=most)
    return updates(folder)


def plan(*sources: Path, change: Sequence[str] = (), recredit: str | None = None, until: int | None = None) -> OfflinePlan:
    with offline.open_sources(sources) as opened:
        return offline.plan_offline(opened, change, recredit=recredit, until=until)


def test_only_a_run_of_the_same_settings_and_versions_is_verified_unasked(recorded, monkeypatch) -> None:
    with closing(open_run(str(recorded))) as log:
        monkeypatch.setattr(offline, "versions", lambda *_: next(log.read("run")).fact.versions)
        assert plan(recorded).expects_recorded_weights()
        for other in (plan(recorded, change=["learn.clip=0.3"]), plan(recorded, recredit="gasp"), plan(recorded, recorded)):
            assert not other.expects_recorded_weights()
        monkeypatch.setattr(offline, "versions", lambda *_: {"torch": "1.0"})
        assert not plan(recorded).expects_recorded_weights()


def test_a_recorded_run_retrained_gives_the_weights_that_the_live_run_gave(recorded, tmp_path) -> None:
    again = train(tmp_path / "again", plan(recorded), verify=True)
    assert [update.model_copy(update={"source": 0}) for update in again] == updates(recorded)
    with closing(open_run(str(tmp_path / "again"))) as log:
        assert log.verify() is None
        assert not list(log.read(kinds=("policy_probed",)))
        assert [fact.iterations for event in log.read("run") if isinstance(fact := event.fact, RunFinished)] == [ITERATIONS]


def test_what_was_trained_offline_goes_on_where_it_was_stopped_and_is_made_once(recorded, tmp_path) -> None:
    order = plan(recorded)
    for count in range(ITERATIONS):
        assert len(train(tmp_path / "again", order, most=1)) == count + 1
    assert [update.digest for update in train(tmp_path / "again", order)] == [update.digest for update in updates(recorded)]
    with closing(open_run(str(tmp_path / "again"))) as log:
        assert offline.source_paths(log) == (recorded.absolute(),)


@pytest.mark.parametrize("what", ["samples", "digest"])
def test_where_a_replay_diverges_from_the_record_is_named(recorded, tmp_path, what) -> None:
    """A recording in memory, with one update that the weights do not give."""
    false, own = MemoryLog(), MemoryLog()
    with closing(open_run(str(recorded))) as log:
        for event in log.read():
            fact = event.fact
            if isinstance(fact, PolicyUpdated) and fact.iteration == 2:
                fact = fact.model_copy(update={what: Digest("0" * 64)})
            for blob in blobs(log, fact):
                false.put(blob)
            false.append(event.stream, [fact])
    own.append("run", [plan(recorded).start])
    shutil.copytree(recorded / "weights", tmp_path / "weights")
    with pytest.raises(ReplayDiverged, match="position") as caught:
        learn(own, tmp_path, [TrainingSource(false)], verify=True)
    [position] = [event.position for event in false.read("policy/shared") if getattr(event.fact, "iteration", 0) == 2]
    truth = getattr(updates(recorded)[1], what)
    assert (caught.value.position, caught.value.expected, caught.value.found) == (position, "0" * 64, truth)
    assert [event.fact.iteration for event in own.read("policy/shared", kinds=("policy_updated",))] == [1]


def blobs(log: Log, fact: object) -> list[bytes]:
    generation = getattr(fact, "generation", None)
    return [log.get(generation.tokens)] if generation else []


def test_several_logs_are_learned_one_after_the_other_and_one_named_twice_is_learned_twice(recorded, tmp_path) -> None:
    order = plan(recorded, recorded)
    assert not order.expects_recorded_weights()
    twice = train(tmp_path / "twice", order)
    assert [(update.source, update.iteration) for update in twice] == [(source, n) for source in (1, 2) for n in (1, 2, 3)]
    assert [update.digest for update in twice[:ITERATIONS]] == [update.digest for update in updates(recorded)]
    assert [update.parent for update in twice[1:]] == [update.digest for update in twice[:-1]]
    assert len({update.digest for update in twice}) == 2 * ITERATIONS


def test_epochs_learn_each_iteration_again_with_importance_weights(recorded, tmp_path) -> None:
    once = train(tmp_path / "once", plan(recorded, change=["learn.importance=truncate"]))
    more = train(tmp_path / "more", plan(recorded, change=["learn.importance=truncate", "learn.epochs=2"]))
    assert [len(update.steps) for update in more] == [2 * len(update.steps) for update in once]
    assert more[0].step == 2 * once[0].step
    share = "sampling/effective_sample_share"
    assert more[0].steps[0].metrics[share] > 0.999 > more[0].steps[-1].metrics[share]


def test_a_phase_of_many_groups_takes_several_steps(recorded, tmp_path) -> None:
    whole = updates(recorded)
    parts = train(tmp_path / "parts", plan(recorded, change=["learn.groups_per_step=2"]))
    for update, other in zip(whole, parts, strict=True):
        sizes = {step.phase: step.groups for step in update.steps}
        assert Counter(step.phase for step in other.steps) == {phase: -(-size // 2) for phase, size in sizes.items()}
        assert max(step.groups for step in other.steps) == 2 < max(sizes.values())
        for phase, size in sizes.items():
            assert sum(step.groups for step in other.steps if step.phase == phase) == size
    assert [update.samples for update in whole] == [update.samples for update in parts]
    assert parts[0].step > whole[0].step


def test_until_a_position_counts_what_was_finished_there(recorded, tmp_path) -> None:
    ends = [update.until for update in updates(recorded)]
    assert [update.until for update in train(tmp_path / "part", plan(recorded, until=ends[1] + 1))] == ends[:2]
    with pytest.raises(BadInput, match="--until"):
        plan(recorded, recorded, until=5)


def test_other_rewards_make_other_weights_and_are_no_divergence(recorded, tmp_path) -> None:
    same = train(tmp_path / "same", plan(recorded, change=["learn.credit=dr_grpo"]))
    change = ["learn.credit=dr_grpo", "rewards.wrong=-0.1"]
    other = train(tmp_path / "other", plan(recorded, change=change, recredit="gasp"))
    assert [update.samples for update in same] == [update.samples for update in updates(recorded)]
    assert [update.samples for update in other] != [update.samples for update in updates(recorded)]
    assert len({update[-1].digest for update in (same, other, updates(recorded))}) == 3


def test_rewards_given_anew_are_those_of_the_recipe() -> None:
    example = example_run(MemoryLog()).run().goalpost().start(3)
    example.episode(lemma=5, lift=2, rejected=["unsafe"], task="induction").episode(lift=None).practice(passing=3).finish()
    events, gasp = list(example.log.read()), Gasp()
    rewards = recrediting.recredited_rewards(events, gasp)
    recorded_rewards = [event for event in events if isinstance(event.fact, RewardGiven)]
    assert rewards.keys() >= {(event.stream, event.fact.of) for event in recorded_rewards}
    teachers = [rewards[event.stream, event.fact.of] for event in recorded_rewards if event.fact.role == "teacher"]
    easy, hard = round(gasp.teacher_reward("easy", 5, 10), 9), round(gasp.teacher_reward("hard", 2, 10), 9)
    assert teachers[:3] == [(gasp.rejection_reward("unsafe"),), (easy,), (hard,)]
    practice = [rewards[event.stream, event.fact.of] for event in recorded_rewards if event.fact.phase == "practice"]
    assert practice == [(1.0,) * 3 + (-0.5,) * 5]


def test_a_gasp_run_credited_as_one_step_medium_gives_the_update_of_a_log_rewarded_so_at_once(recorded, tmp_path) -> None:
    """The other log says of every proposal what R(p; 0.3, 5) gives it, by hand, and is learned without crediting anew."""
    again = train(tmp_path / "again", plan(recorded, recredit="one_step_medium"))
    example, own = MemoryLog(), MemoryLog()
    with closing(open_run(str(recorded))) as log:
        rates: dict[str, float] = {}
        for event in log.read():
            fact = event.fact
            if isinstance(fact, PassRateMeasured):
                rates[event.stream] = fact.successes / fact.attempts
            if isinstance(fact, RewardGiven) and fact.role == "teacher" and event.stream in rates:
                p = rates.pop(event.stream)
                curve = ((p / 0.3) * ((1 - p) / 0.7) ** (0.7 / 0.3)) ** 5 if 0.1 <= p <= 0.5 else -0.5
                fact = fact.model_copy(update={"rewards": (round(curve, 9),)})
            for blob in blobs(log, fact):
                example.put(blob)
            example.append(event.stream, [fact])
    own.append("run", [plan(recorded, recredit="one_step_medium").start])
    shutil.copytree(recorded / "weights", tmp_path / "weights")
    learn(own, tmp_path, [TrainingSource(example)])
    at_once = [event.fact for event in own.read("policy/shared", kinds=("policy_updated",))]
    assert [(update.samples, update.digest) for update in again] == [(update.samples, update.digest) for update in at_once]
    assert [update.samples for update in again] != [update.samples for update in updates(recorded)]


def test_a_dry_run_tells_all_that_would_be_learned(recorded, tmp_path) -> None:
    order = plan(recorded)
    log = MemoryLog()
    log.append("run", [order.start])
    with offline.open_sources([recorded]) as sources:
        training_sources = replace(order, sources=sources).training_sources()
        lines = list(describe_updates(UpdateSchedule(log, order.start, sources=training_sources, verify=True)))
    for line, update in zip(lines, updates(recorded), strict=False):
        assert line.startswith(f"iteration {update.iteration} · shared · positions {update.after + 1}–{update.until}")
        assert f"{sum(step.samples for step in update.steps)} samples" in line
        assert f"{sum(step.tokens for step in update.steps)} tokens" in line
        assert update.samples[:8] in line
    assert lines[-1].startswith(f"{ITERATIONS} updates in {updates(recorded)[-1].step} steps")


@pytest.mark.parametrize(
    ("change", "problem"),
    [(["play.attempts=3"], "was played already"), (["learn.lr=1"], "learn.lr"), (["model=nowhere"], "no model")],
)
def test_what_cannot_be_trained_offline_is_one_sentence(recorded, change, problem) -> None:
    with pytest.raises(BadInput, match=problem):
        plan(recorded, change=change)


def test_another_plan_needs_another_folder(recorded, tmp_path) -> None:
    train(tmp_path / "one", plan(recorded))
    with pytest.raises(BadInput, match="name another folder"):
        train(tmp_path / "one", plan(recorded, change=["learn.clip=0.3"]))
    with pytest.raises(BadInput, match="itself trained offline"):
        plan(tmp_path / "one")


def test_a_run_that_plays_nothing_is_not_played_on(recorded, tmp_path) -> None:
    train(tmp_path / "one", plan(recorded))
    with pytest.raises(BadInput, match="plays nothing"):
        reopen_run(tmp_path / "one")


@pytest.mark.parametrize(
    ("args", "problem"), [(["--follow"], "leave out --follow"), (["--recredit", "none"], "no recipe 'none'")]
)
def test_options_that_do_not_fit_together_are_told(recorded, args, problem) -> None:
    with pytest.raises(BadInput, match=problem):
        CliRunner().invoke(app, ["--offline", str(recorded), *args], catch_exceptions=False)


@pytest.mark.parametrize(
    ("args", "problem"),
    [(["--set", "learn.clip=0.1"], "need --offline"), (["--epochs", "2"], "need --offline"), (["--verify"], "name one by")],
)
def test_options_of_offline_training_need_it(recorded, args, problem) -> None:
    with pytest.raises(BadInput, match=problem):
        CliRunner().invoke(app, [str(recorded), *args], catch_exceptions=False)


def test_a_dry_run_needs_no_torch_and_leaves_nothing(recorded) -> None:
    before = sorted(recorded.parent.iterdir())
    code = "import sys; sys.argv[1:] = {!r}; import atexit; atexit.register(lambda: print('torch' in sys.modules)); import runpy; runpy.run_module('trainer.run', run_name='__main__')"
    shown = subprocess.run(
        [sys.executable, "-c", code.format(["--offline", str(recorded), "--dry-run"])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = shown.stdout.splitlines()
    assert (len(lines), lines[-1]) == (ITERATIONS + 2, "False")
    assert sorted(recorded.parent.iterdir()) == before


@pytest.mark.slow
def test_the_command_survives_kill_9_and_ends_with_the_recorded_weights(recorded, tmp_path) -> None:
    out = tmp_path / "new"
    first = start_command("trainer.run", out, "--offline", recorded, fresh=False)
    wait_until(lambda: out.exists() and (out / "log.sqlite").exists() and updates(out), first)
    first.kill()
    first.communicate()
    # The folder says where its sources are.
    second = start_command("trainer.run", out, fresh=False)
    second.communicate()
    assert second.returncode == 0
    assert [update.digest for update in updates(out)] == [update.digest for update in updates(recorded)]
    logged = [json.loads(line) for line in (out / "trainer.log").read_text().splitlines()]
    assert sum(line["event"] == "policy_updated" for line in logged) <= ITERATIONS
    with closing(open_run(str(out))) as log:
        assert log.verify() is None
