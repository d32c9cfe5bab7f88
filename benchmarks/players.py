"""Several players on one log in PostgreSQL: time by number of players, and what `kill -9` does.

Players are processes with a scripted model whose latency is drawn by seed, and with programs that are not run; everything else
is what plays a run. Facts are compared stream by stream with those of one player.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import time
import traceback
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import run_main
from events.facts.log import Log
from events.facts.streams import RUN, policy_stream
from events.facts.types import PolicyProbed, PolicyUpdated, RunStarted
from events.facts.values import Digest, IOPair, Provenance, Question
from events.process.activity import Activity
from events.stores import open_log
from events.stores.claims import open_claims
from events.stores.postgres import PostgresLog
from graph.play.build import build
from graph.play.context import NodeContext
from graph.play.episode_sampling import QuestionPools
from graph.play.evaluation import Evaluator
from graph.play.iterations import Play
from graph.play.lockstep import Lockstep
from graph.play.player import Player
from graph.play.player_log import PlayerLog, player_name
from graph.play.served_weights import ServedWeights
from graph.play.shares import SharePlayer
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from graph.settings.seeds import seeded_rng
from graph.setup.session import COORDINATOR
from roles.judging.similarity import NgramEmbedding, Novelty
from roles.model import Completion, Encoding, GenerationReply, GenerationRequest, Model
from roles.prompt import Prompts
from roles.prompt_set import SHIPPED_PROMPTS
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Verifier
from sandbox.runner import InputRun, Job, JobResult

POLICY = Digest("0" * 64)
QUESTIONS = tuple(
    Question(
        statement=f"Add {number} to a number.",
        public=(IOPair(input="1", output=str(number + 1)),),
        private=(IOPair(input="2", output=str(number + 2)),),
    )
    for number in range(2048)
)
SPREAD = 0.3
"""Standard deviation of the logarithm of a latency."""


class DelayedModel:
    """Writes the same for a seed, after a latency that depends on the seed of the first request."""

    policy = POLICY

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    @property
    def encoding(self) -> Encoding:
        """Calibration alone would need one."""
        raise NotImplementedError

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        """See `roles.model.Model`."""
        await asyncio.sleep(seeded_rng(requests[0].seed, "latency").lognormvariate(math.log(self._latency_s), SPREAD))
        return [
            GenerationReply(POLICY, (1, 2, 3), tuple(map(_completion, [request.seed] * request.count))) for request in requests
        ]

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        """Do nothing."""

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """See `roles.model.Model`."""
        return (-0.5,) * (len(tokens) - 1)

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """See `roles.model.Model`."""
        return tuple(-0.5 * len(ids) for ids in continuations)

    async def sleep(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def _completion(seed: int) -> Completion:
    text = f"```python\ndef f(x):\n    return x + {seed % 9}\n```"
    return Completion(text, tuple(text.encode()), (-0.5,) * len(text), "end")


class IdleRunner:
    """Runs nothing; every program returns 3."""

    provenance = Provenance(image="none", limits={})

    async def run(self, jobs: Sequence[Job]) -> list[JobResult]:
        """See `sandbox.runner.Runner`."""
        ran = InputRun(status="ok", value="3")
        return [JobResult(runs=(ran,) * len(job.inputs), seconds=0.0, cpu_seconds=0.0, peak_mb=0.0) for job in jobs]

    async def close(self) -> None:
        """Do nothing."""


class IdleTrainer:
    """Learns nothing, and appends what the trainer would."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def wait_for_update(self, policy: str, iteration: int) -> Digest:
        """See `graph.play.trainer_process.TrainerProcess`."""
        numbers: dict[str, Any] = {"after": 0, "until": 0, "samples": "", "step": 0, "steps": ()}
        fact = PolicyUpdated(policy=policy, parent=POLICY, digest=POLICY, iteration=iteration, **numbers)
        self._log.append(policy_stream(policy), [fact], key=f"update {iteration}")
        return POLICY

    async def wait_for_probe(self, policy: str, digest: Digest) -> PolicyProbed:
        """See `graph.play.trainer_process.TrainerProcess`."""
        probe = PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=(-0.5, -0.5))
        self._log.append(policy_stream(policy), [probe], key="probe")
        return probe


def settings(shares: int, episodes: int, iterations: int) -> Config:
    """Settings of a run of one task, four appends an episode."""
    play = {"shares": shares, "iterations": iterations, "practice": episodes, "practice_attempts": 8}
    return Config(recipe="rlvr", play=play, evaluate={"first": False})


def assemble(log: Log, store: PostgresLog, config: Config, model: Model) -> Play:
    """A player's part of the run."""
    scheduler, prompts = Lockstep(Activity()), Prompts(SHIPPED_PROMPTS / "pocket")
    batched = scheduler.model(model)
    solver, verifier = Solver(batched, prompts, log), Verifier(scheduler.runner(IdleRunner()), 5, 2)
    recipe = config.algorithm()
    context = NodeContext(
        log=log,
        teacher=Teacher(batched, prompts, log, config.play.teacher.sampling, config.play.pairs),
        solver=solver,
        verifier=verifier,
        novelty=Novelty(NgramEmbedding()),
        recipe=recipe,
        play=config.play,
        similarity=config.verify.similarity,
    )
    return Play(
        config=config,
        log=log,
        context=context,
        graph=build(config.play, recipe.plan),
        scheduler=scheduler,
        evaluator=Evaluator(log, solver, verifier, scheduler, config.evaluate, 0),
        weights=ServedWeights(
            log=log,
            store=Path("weights"),
            policy_of=config.policy_of,
            models={"shared": model},
            trainer=IdleTrainer(log),  # type: ignore[arg-type]
            checker=WeightSyncChecker(exact=True),
            activity=scheduler.activity,
            digests={"teacher": POLICY, "student": POLICY},
        ),
        pools=QuestionPools(goalposts=(), practice=QUESTIONS),
        share_player=SharePlayer(log, open_claims(store), scheduler.activity, config.play.patience_s),
    )


def start(url: str, config: Config) -> None:
    """Begin a run."""
    with closing(open_log(url, create=True)) as log:
        fact = RunStarted(
            config=json.loads(config.model_dump_json()),
            versions={},
            commit="unknown",
            policies={"teacher": POLICY, "student": POLICY},
        )
        log.append(RUN, [fact], key="start")


def spawn(url: str, config: Config, latency_s: float, *, coordinator: bool) -> int:
    """Fork a player, or one that waits until it is the coordinator; its process id."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            asyncio.run(_play(url, config, latency_s, coordinator=coordinator))
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return pid


async def _play(url: str, config: Config, latency_s: float, *, coordinator: bool) -> None:
    store = open_log(url)
    assert isinstance(store, PostgresLog)
    play = assemble(PlayerLog(store, player_name()), store, config, DelayedModel(latency_s))
    if not coordinator:
        await Player(play).run()
        return
    assert play.share_player is not None
    while play.share_player.claims.take(COORDINATOR) is None:
        await asyncio.sleep(0.05)
    await play.run()


def record(url: str) -> dict[str, tuple[int, str]]:
    """Length and last hash of the stream of every episode; asserts that the log is sound."""
    with closing(open_log(url)) as log:
        assert log.verify() is None
        return {event.stream: (event.version, event.hash) for event in log.read() if event.stream.startswith("episode/")}


def play_once(url: str, config: Config, latency_s: float, players: int) -> float:
    """Play a run with so many players; seconds from the first event of its first iteration to its last event."""
    start(url, config)
    pids = [spawn(url, config, latency_s, coordinator=number == 0) for number in range(players)]
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a player ended with {status}"
    with closing(open_log(url)) as log:
        times = [event.time for event in log.read(RUN) if event.fact.kind in ("iteration_started", "run_finished")]
    return (times[-1] - times[0]).total_seconds()


def kill_often(url: str, config: Config, latency_s: float, players: int, chance: random.Random) -> int:
    """Play a run whose players, the coordinator among them, are killed and replaced at random moments; how many were."""
    start(url, config)
    roles = {spawn(url, config, latency_s, coordinator=number == 0): number == 0 for number in range(players)}
    kills = seen = 0
    while roles:
        time.sleep(chance.uniform(0.05, 0.5))
        while roles and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            assert ended[1] == 0, f"a player ended with {ended[1]}"
            del roles[ended[0]]
        position, finished = _progress(url)
        # Between two kills something is recorded, lest nobody ever gets beyond starting.
        if not roles or finished or position <= seen:
            continue
        seen = position
        victim = chance.choice(list(roles))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        _, status = os.waitpid(victim, 0)
        coordinator = roles.pop(victim)
        if status == signal.SIGKILL:
            kills += 1
            roles[spawn(url, config, latency_s, coordinator=coordinator)] = coordinator
    return kills


def _progress(url: str) -> tuple[int, bool]:
    """The last position, and whether the run is finished."""
    with closing(open_log(url)) as log:
        return log.head().position, any(True for _ in log.read(RUN, kinds={"run_finished"}, limit=1))


def main(
    url: Annotated[str, typer.Argument(help="Database for the logs, such as postgresql://me@localhost/scratch.")],
    counts: Annotated[str, typer.Option(help="Numbers of players.")] = "1,2,4",
    shares: Annotated[int, typer.Option(help="Shares; 0: as many as players.")] = 4,
    episodes: Annotated[int, typer.Option(help="Episodes an iteration, of four appends each.")] = 64,
    iterations: Annotated[int, typer.Option(help="Iterations a run.")] = 2,
    latency: Annotated[float, typer.Option(help="Median seconds of a batch of completions.")] = 2.0,
    kills: Annotated[int, typer.Option(help="Instead, kill players until there were so many kills.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the moments of kills.")] = 0,
) -> None:
    """Play runs with several players, and print a line of JSON for each."""
    rng, stamp, done = seeded_rng(seed, "kills"), f"players{os.getpid()}", 0
    first: dict[int, Any] = {}
    # Imported here, once, and not in every player.
    NgramEmbedding()
    for number, count in enumerate(map(int, counts.split(","))):
        config = settings(shares or count, episodes, iterations)
        where = f"{url}?run={stamp}.{number}"
        seconds = play_once(where, config, latency, count)
        recorded = record(where)
        base = first.setdefault(config.play.shares, (seconds, recorded))
        assert recorded == base[1], "another number of players recorded other facts"
        appends = 4 * episodes * iterations
        row = {"players": count, "shares": config.play.shares, "seconds": round(seconds, 2), "appends": appends}
        typer.echo(
            json.dumps(row | {"appends_per_second": round(appends / seconds, 1), "speedup": round(base[0] / seconds, 2)})
        )
    number = 0
    while done < kills:
        where = f"{url}?run={stamp}.k{number}"
        config = settings(shares, episodes, iterations)
        died = kill_often(where, config, latency, 4, rng)
        done, number = done + died, number + 1
        assert record(where) == first[shares][1], "after kills, other facts were recorded"
        typer.echo(json.dumps({"run": number, "kills": died, "in all": done, "episodes": len(first[shares][1]), "equal": True}))


if __name__ == "__main__":
    run_main(main)
