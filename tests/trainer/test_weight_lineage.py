"""Lineage from weights to rollouts and back."""

import json
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from events.cli.app import open_run
from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.types import EpisodeFailed
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.web.app import make_app
from events.web.view.viewer import Viewer
from tests.support.example_runs import START_WEIGHTS, ExampleRun, example_run
from tests.support.processes import run_command
from tests.support.viewer_client import wait_until_indexed
from trainer.data import replay, weight_lineage
from trainer.data.replay import Cursor


def record_lineage(log=None) -> ExampleRun:
    return example_run(log or MemoryLog()).run().goalpost(2).play().update().play(guided=1).update()


def test_the_rollouts_of_an_update_are_those_that_were_rewarded_in_its_positions() -> None:
    log = record_lineage().log
    first, second = weight_lineage.updates(log)
    for update in (first, second):
        rewards = [
            event for event in log.read(kinds=("reward_given",)) if update.fact.after < event.position <= update.fact.until
        ]
        consumed = weight_lineage.consumed_generations(log, update.fact)
        assert sorted(rollout.position or 0 for rollout in consumed) == [event.position for event in rewards]
        for rollout in consumed:
            event = next(event for event in rewards if event.position == rollout.position)
            assert (rollout.id, rollout.rewards, rollout.phase) == (
                f"{event.stream}:{event.fact.of}",
                event.fact.rewards,
                event.fact.phase,
            )
    goalposts = {event.fact.question for event in log.read(kinds=("goalpost_added",))}
    assert {rollout.goalpost for rollout in weight_lineage.consumed_generations(log, first.fact)} == {*goalposts, None}


def test_every_rollout_leads_to_the_update_that_leads_to_it() -> None:
    log = record_lineage().log
    for update in weight_lineage.updates(log):
        for rollout in weight_lineage.consumed_generations(log, update.fact):
            record, index = weight_lineage.find_generation(log, f"{rollout.id}/0")
            assert (record, index) == (rollout, 0)
            assert weight_lineage.consuming_updates(log, record) == [update]


def test_teacher_and_student_are_fed_by_their_own_rollouts() -> None:
    story = example_run(MemoryLog()).run(policies="separate").goalpost().play()
    until = story.log.head().position
    from tests.support.example_runs import policy_updated

    for name in ("teacher", "student"):
        story.log.append(f"policy/{name}", [policy_updated(iteration=1, after=0, until=until, policy=name)])
    for update in weight_lineage.updates(story.log):
        assert {rollout.role for rollout in weight_lineage.consumed_generations(story.log, update.fact)} == {update.fact.policy}


def test_what_is_not_rewarded_or_of_a_failed_episode_fed_nothing() -> None:
    story = example_run(MemoryLog()).run().goalpost().start(2).practice()
    story.log.append(story.stream, [EpisodeFailed(error="SandboxError", message="gone")])
    failed = story.stream
    log = story.practice().finish().update().log
    [update] = weight_lineage.updates(log)
    assert {rollout.id.partition(":")[0] for rollout in weight_lineage.consumed_generations(log, update.fact)} == {story.stream}
    assert weight_lineage.consuming_updates(log, weight_lineage.find_generation(log, f"{failed}:2")[0]) == []


def test_viewer_lineage_and_trainer_agree_on_what_an_update_consumed(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "run" / "log.sqlite", create=True)) as log:
        story = example_run(log).run().goalpost().start(3).episode()
        whole = {story.stream}
        story.practice()
        log.append(story.stream, [EpisodeFailed(error="SandboxError", message="gone")])
        story.practice().finish().update()
        whole.add(story.stream)
        [update] = weight_lineage.updates(log)
        end = next(log.read(kinds=("iteration_finished",)))
        window = replay.iteration_rollouts(log, Cursor("shared", START_WEIGHTS, until=0, step=0, version=0), end)
        trained = [group.position for group in window.groups]
        assert {event.stream for event in log.read() if event.position in trained} == whole
        assert sorted(rollout.position or 0 for rollout in weight_lineage.consumed_generations(log, update.fact)) == trained
        with closing(Viewer([str(tmp_path / "run")])) as viewer:
            wait_until_indexed(viewer, "run")
            page = TestClient(make_app(viewer)).get(f"/runs/run/policies/{update.fact.digest}.json").json()
        assert [row["position"] for row in page["consumed"]] == trained


def test_weights_lead_to_all_updates_before_them() -> None:
    log = record_lineage().log
    first, second = weight_lineage.updates(log)
    assert weight_lineage.ancestry(log, second.fact.digest) == [second, first]
    assert weight_lineage.ancestry(log, first.fact.digest[:9]) == [first]
    assert weight_lineage.ancestry(log, START_WEIGHTS) == []


@pytest.mark.parametrize(("digits", "problem"), [("", "3 weights"), ("xyz", "No weights")])
def test_digits_that_name_no_weights_or_several_are_refused(digits, problem) -> None:
    with pytest.raises(BadInput, match=problem):
        weight_lineage.ancestry(record_lineage().log, digits)


@pytest.mark.parametrize("name", ["episode/00001/000", "episode/00001/000:x", "nowhere:1", "episode/00001/000:1", "run:1"])
def test_what_names_no_rollout_is_refused(name) -> None:
    with pytest.raises(BadInput):
        weight_lineage.find_generation(record_lineage().log, name)


def command(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run_command("trainer", "lineage", *args, cwd=cwd)


def test_the_command_finds_the_run_and_tells_both_ways(tmp_path) -> None:
    folder = tmp_path / "runs" / "run-001"
    folder.mkdir(parents=True)
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        record_lineage(log)
        first, second = weight_lineage.updates(log)
        rollouts = weight_lineage.consumed_generations(log, second.fact)
    digest = second.fact.digest
    data = json.loads(command(tmp_path, digest[:10], "--json", "--ancestors").stdout)
    assert [row["digest"] for row in data["updates"]] == [digest, first.fact.digest]
    assert [row["id"] for row in data["updates"][0]["rollouts"]] == [row.id for row in rollouts]
    shown = command(tmp_path, digest[:10]).stdout
    for words in (
        digest,
        rollouts[0].id,
        rollouts[0].question,
        "goalposts:",
        f"{first.fact.digest[:SHORT]} ← {START_WEIGHTS[:SHORT]}",
    ):
        assert words in shown
    assert f"learned by {digest}" in command(tmp_path, "--rollout", f"{rollouts[0].id}/0").stdout
    shutil.copytree(folder, folder.with_name("copy"))
    refused = command(tmp_path, digest[:10])
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--run" in refused.stderr
    assert command(tmp_path, digest[:10], "--run", "runs/copy").returncode == 0
    with closing(open_run(str(folder))) as log:
        assert log.verify() is None
