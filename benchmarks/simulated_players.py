"""Simulated players on a real log: latencies, deaths and the trainer are drawn, appends, keys, versions and bytes are real.

Seconds of the simulated run are divided by `World.speedup`, so that a player asks as much of the log as that many real ones.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from benchmarks.synthetic_player import PROVENANCE, SAMPLING, TEMPLATE
from events.facts.fact import Fact
from events.facts.log import Log
from events.facts.rollouts import pack_rollouts
from events.facts.streams import RUN
from events.facts.types import AttemptsMade, AttemptsVerified, EpisodeFinished, EpisodeStarted, IterationFinished
from events.facts.values import BlobHash, Digest, Generation, QuestionId, Verdict
from events.stores import open_log
from events.stores.postgres import PostgresLog
from graph.settings.seeds import seeded_rng

POLICY = Digest("0" * 64)
QUESTION = QuestionId("1" * 64)
APPENDS = 4
"""Appends of an episode: its opening, attempts, verdicts, its end."""


@dataclass(frozen=True)
class World:
    """What is drawn; times are seconds of the simulated run."""

    batch_s: float = 30.0
    """Median of a batch of completions; the logarithm has the standard deviation `spread`."""
    spread: float = 0.3
    verdict_s: float = 2.0
    trainer_s: float = 60.0
    death: float = 0.02
    """Probability that a player dies in a batch: its answers are lost, and another begins the batch anew."""
    restart_s: float = 30.0
    iterations: int = 2
    speedup: float = 20.0
    attempts: int = 8
    tokens: int = 1000
    """Of an attempt."""

    def waits(self, player: int, iteration: int) -> list[float]:
        """Seconds before each append of a player but the opening: the batch with its repetitions, verdicts, the end."""
        chance = seeded_rng(player, "scale", iteration)
        batch = chance.lognormvariate(math.log(self.batch_s), self.spread)
        while chance.random() < self.death:
            batch += self.restart_s + chance.random() * batch
        return [batch, self.verdict_s, 0.0]

    def playing_s(self, players: int) -> float:
        """Seconds of play of a run whose log takes no time: the slowest player of each iteration."""
        return sum(max(sum(self.waits(player, number)) for player in range(players)) for number in range(self.iterations))

    def ideal_s(self, players: int) -> float:
        """Seconds of such a run, with the trainer."""
        return self.playing_s(players) + self.iterations * self.trainer_s

    def asked(self, players: int) -> float:
        """Appends that players ask for in a real second of play."""
        return players * APPENDS * self.iterations / self.playing_s(players) * self.speedup


@dataclass
class Connections:
    """Logs of one run, each with connections of its own, that appends take turns in; and what appends took."""

    url: str
    size: int
    waited: list[float] = field(default_factory=list)
    """Seconds of each append, with the wait for a connection."""
    client_s: float = 0.0
    """CPU seconds of appends in this process."""
    _logs: list[PostgresLog] = field(default_factory=list)
    _local: threading.local = field(default_factory=threading.local)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.size)

    def _log(self) -> PostgresLog:
        if not hasattr(self._local, "log"):
            self._local.log = open_log(self.url)
            self._logs.append(self._local.log)
        log: PostgresLog = self._local.log
        return log

    async def append(self, stream: str, make: Callable[[Log], Sequence[Fact]], expected: int, key: str, player: str) -> None:
        """Append facts, whose blobs `make` puts into the log."""
        began = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(self._pool, self._append, stream, make, expected, key, player)
        self.waited.append(time.perf_counter() - began)

    def _append(self, stream: str, make: Callable[[Log], Sequence[Fact]], expected: int, key: str, player: str) -> None:
        log, began = self._log(), time.thread_time()
        log.append(stream, make(log), expected=expected, key=key, observed={"player": player})
        self.client_s += time.thread_time() - began

    def server_s(self) -> float:
        """CPU seconds of the server's processes behind these connections, if it runs on this machine."""
        return sum(cpu_s(log._writer.info.backend_pid) for log in self._logs)

    def close(self) -> None:
        """Close all connections."""
        self._pool.shutdown()
        for log in self._logs:
            log.close()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process of this machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


class EpisodeFacts:
    """The facts of episodes, with token arrays of the size of real ones."""

    def __init__(self, world: World) -> None:
        chance = random.Random(0)  # noqa: S311  # equal runs write equal bytes
        rows = range(world.attempts)
        self._ids = [[chance.randrange(150_000) for _ in range(world.tokens)] for _ in rows]
        self._logprobs = [[-chance.expovariate(2.0) for _ in range(world.tokens)] for _ in rows]
        self._texts = ["".join(chance.choice("abcdefgh \n") for _ in range(3 * world.tokens)).encode() for _ in rows]
        self._numbers = count()
        self._world = world

    def opening(self, log: Log) -> list[Fact]:
        """The beginning."""
        blob = log.put(b"question")
        return [EpisodeStarted(iteration=1, purpose="practice", question=QUESTION, blob=blob, axis="io", seed=0)]

    def attempts(self, log: Log) -> list[Fact]:
        """Completions; no two are equal, since the log keeps equal ones once."""
        number = next(self._numbers)
        ids = [[number, *row[1:]] for row in self._ids]
        texts = log.put(b" ".join(self._texts) + str(number).encode())
        generation = Generation(
            policy=POLICY,
            template=TEMPLATE,
            prompt=log.put(b"prompt"),
            texts=texts,
            tokens=BlobHash(log.put(pack_rollouts(self._ids[0], ids, self._logprobs))),
            count=self._world.attempts,
            length=self._world.attempts * self._world.tokens,
            seed=number,
            sampling=SAMPLING,
        )
        return [AttemptsMade(purpose="practice", question=QUESTION, task="induction", generation=generation)]

    def verdicts(self, log: Log) -> list[Fact]:
        """All passed."""
        verdict = Verdict(outcome="passed", passed=5, total=5, detail="", tests=".....")
        return [AttemptsVerified(of=2, verdicts=(verdict,) * self._world.attempts, provenance=PROVENANCE)]

    def end(self, log: Log) -> list[Fact]:
        """The episode is over."""
        return [EpisodeFinished(reason="played")]


@dataclass(frozen=True)
class SimulatedRun:
    """What a simulated run took, in real seconds."""

    players: int
    connections: int
    seconds: float
    ideal_s: float
    """Had the log taken no time."""
    playing_s: float
    """Seconds of `seconds` without the trainer."""
    appends: int
    append_ms: float
    """Median of an append, with the wait for a connection."""
    client_ms: float
    """CPU time of an append where the player is."""
    server_ms: float
    """CPU time of an append in the server."""

    @property
    def slowdown(self) -> float:
        """How much longer it took than without a log."""
        return self.seconds / self.ideal_s

    @property
    def cores(self) -> float:
        """Cores that appends had, here and in the server."""
        return self.rate * (self.client_ms + self.server_ms) / 1000

    @property
    def rate(self) -> float:
        """Appends a second while it was played."""
        return self.appends / self.playing_s


def simulate(url: str, players: int, connections: int, world: World) -> SimulatedRun:
    """Play a run on a new log; asserts that the log is sound and has every append once."""
    with closing(open_log(url, create=True)), closing(Connections(url, connections)) as pool:
        playing_s, seconds = asyncio.run(_play(players, pool, world))
        server_s = pool.server_s()
        expected = players * APPENDS * world.iterations
        with closing(open_log(url)) as log:
            assert log.verify() is None
            assert sum(event.stream.startswith("episode/") for event in log.read()) == expected
    each = 1000 / len(pool.waited)
    return SimulatedRun(
        players,
        connections,
        seconds,
        world.ideal_s(players) / world.speedup,
        playing_s,
        expected,
        1000 * median(pool.waited),
        each * pool.client_s,
        each * server_s,
    )


async def _play(players: int, pool: Connections, world: World) -> tuple[float, float]:
    facts, began, playing_s = EpisodeFacts(world), time.perf_counter(), 0.0
    for number in range(world.iterations):
        opened = time.perf_counter()
        # The barrier.
        await asyncio.gather(*(_play_episode(player, number, pool, world, facts) for player in range(players)))
        playing_s += time.perf_counter() - opened
        finished = IterationFinished(iteration=number + 1, finished=players, failed=0)
        await pool.append(RUN, lambda _, fact=finished: [fact], number, f"finished@{number}", "coordinator")  # type: ignore[misc]
        await asyncio.sleep(world.trainer_s / world.speedup)
    return playing_s, time.perf_counter() - began


async def _play_episode(player: int, iteration: int, pool: Connections, world: World, facts: EpisodeFacts) -> None:
    stream, name = f"episode/{iteration + 1:05}/{player:03}", f"player-{player}"
    steps = zip(
        [0.0, *world.waits(player, iteration)],
        (facts.opening, facts.attempts, facts.verdicts, facts.end),
        ("opening", "attempts@1", "verdicts@2", "end"),
        strict=True,
    )
    for version, (wait, make, key) in enumerate(steps):
        await asyncio.sleep(wait / world.speedup)
        await pool.append(stream, make, version, key, name)
