"""Whole small runs on real vLLM servers: sampled there, learned here, delivered there, proved, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from events.cli.app import holds_log
from events.facts.log import Event, Log
from events.facts.types import AttemptsMade, IterationStarted, PolicyProbed, PolicyServed, PolicyUpdated, QuestionProposed
from events.facts.values import Digest
from events.facts.weights import adapter_base
from events.stores import open_log
from graph.play.weight_sync import TOKEN_LIMIT
from roles.serving.processes import descendants
from tests.support.processes import NEEDS_VLLM, all_end, finish, start_run, wait_until
from trainer.learn.importance import MISMATCH_MAX, MISMATCH_MEAN

pytestmark = [pytest.mark.docker, pytest.mark.slow, NEEDS_VLLM]

WHOLE = (
    "serve.backend=vllm", "serve.kv_cache_gib=0.25", "play.iterations=2", "play.episodes=4",
    "play.practice=4", "play.practice_attempts=6", "play.attempts=6", "play.gap_attempts=4", "play.max_attempts=2",
    "evaluate.questions=2", "evaluate.attempts=2",
)  # fmt: skip
ADAPTERS = (*WHOLE, "learn.lora.rank=4", "learn.learning_rate=3e-3", "policies=separate", "play.order=concurrent")


def wait(process: subprocess.Popen[str], run: Path, happened: Callable[[Event], bool]) -> None:
    wait_until(lambda: holds_log(run), process, pause_s=0.1)
    with closing(open_log(run / "log.sqlite")) as log:
        wait_until(lambda: any(map(happened, log.read())), process, pause_s=0.1)


def servers_of(run: Path) -> list[str]:
    lines = [json.loads(line) for line in (run / "run.log").read_text().splitlines()]
    return [line["model"] for line in lines if line["event"] == "servers_started"]


def facts(log: Log, kind: str) -> list:
    return [event.fact for event in log.read(kinds=(kind,))]


def check(log: Log, policy_of: dict[str, str]) -> dict[str, list[Digest]]:
    """All that holds for any run of two iterations on servers; each policy's weights, in order."""
    assert log.verify() is None
    assert not facts(log, "episode_failed")
    first = facts(log, "run_started")[0].policies["student"]
    chains = {name: [first] for name in policy_of.values()}
    for update in facts(log, "policy_updated"):
        assert isinstance(update, PolicyUpdated)
        chains[update.policy].append(update.digest)
        taken = [step for step in update.steps if step.samples]
        # The gap between sampler and trainer is told of every step; that of the first is of the very weights that sampled.
        assert all({MISMATCH_MEAN, MISMATCH_MAX} <= step.metrics.keys() for step in taken)
        assert taken[0].metrics[MISMATCH_MAX] < TOKEN_LIMIT
    probed = {fact.digest for fact in facts(log, "policy_probed") if isinstance(fact, PolicyProbed)}
    for role, name in policy_of.items():
        assert len(set(chains[name])) == 3, f"{name} did not learn twice"
        served = [fact for fact in facts(log, "policy_served") if isinstance(fact, PolicyServed) and fact.role == role]
        assert [fact.policy for fact in served] == chains[name]
        # Another program computed them, so that they are not the same to the last bit.
        assert all(0 < fact.mean_difference <= fact.difference < TOKEN_LIMIT for fact in served)
        assert probed >= set(chains[name])
    now: dict[str, Digest] = {}
    for event in log.read(kinds=("iteration_started", "attempts_made", "question_proposed")):
        match event.fact:
            case IterationStarted(iteration=number, policies=policies):
                assert policies == {role: chains[name][number - 1] for role, name in policy_of.items()}
                now = dict(policies)
            case AttemptsMade(generation=generation, purpose=purpose) if purpose != "evaluation":
                assert generation.policy == now["student"]
            case QuestionProposed(generation=generation):
                assert generation.policy == now["teacher"]
    return chains


@pytest.mark.endurance
def test_a_run_on_a_server_that_reloads_weights_survives_kill_9_and_leaves_no_server(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_run(tmp_path, "--name", "run", settings=WHOLE)

    def by_learned_weights(event: Event) -> bool:
        return isinstance(event.fact, AttemptsMade) and event.stream.startswith("episode/00002/")

    wait(process, run, by_learned_weights)
    started = descendants(process.pid)
    process.kill()
    process.communicate()
    assert all_end(started)
    process = start_run(tmp_path, "--resume", "run")
    wait(process, run, lambda event: event.fact.kind == "run_resumed")
    finish(process)
    with closing(open_log(run / "log.sqlite")) as log:
        first, second, _ = check(log, {"teacher": "shared", "student": "shared"})["shared"]
    assert servers_of(run) == [first[:12], second[:12]]


def test_two_adapters_on_one_server_play_at_their_own_pace_and_the_server_ends_with_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_run(tmp_path, "--name", "run", settings=ADAPTERS)
    wait(process, run, lambda event: isinstance(event.fact, AttemptsMade))
    started = descendants(process.pid)
    finish(process)
    assert all_end(started)
    with closing(open_log(run / "log.sqlite")) as log:
        chains = check(log, {"teacher": "teacher", "student": "student"})
    (base,) = {chain.pop(0) for chain in chains.values()}
    assert {adapter_base(run / "weights" / digest) for chain in chains.values() for digest in chain} == {run / "weights" / base}
    assert len({digest for chain in chains.values() for digest in chain}) == 4
    assert servers_of(run) == [base[:12]]
