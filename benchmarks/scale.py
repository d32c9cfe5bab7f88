"""What limits a run of many players: simulated players on a real PostgreSQL, costs measured one by one, and 7B on paper.

`python -m benchmarks.scale` writes a section and a figure of docs/scaling-simulated.md. Where a machine is shared, its clock
says little: costs are CPU seconds, and the queue of appends is also computed from them, as on cores that nobody else uses.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import section
from benchmarks.command import run_main
from benchmarks.rounds import table
from benchmarks.simulated_players import SimulatedRun, World, cpu_s, simulate
from benchmarks.synthetic_questions import random_steps, synthetic_question
from events.facts.errors import BadInput
from events.facts.streams import RUN
from events.stores import open_log
from events.stores.postgres import PostgresLog
from events.text.phrases import counted
from graph.estimate.budget import Budget
from graph.estimate.memory import gpu_of
from graph.estimate.model_dims import dims_of
from graph.estimate.token_estimate import tokens_of_iteration
from graph.play.shares import Share, ShareBoard
from graph.settings.configure import configure, with_overrides
from roles.judging.similarity import NgramEmbedding, Novelty
from tests.support.postgres_server import find_postgres, postgres_server

DOCUMENT, FIGURE, PAPER = Path("docs/scaling-simulated.md"), Path("docs/images/scale.png"), Path("configs/paper-7b-4xh100.toml")
POLLS = 1000
COMPUTED = (2048, 8192)
"""Numbers of players whose queue is only computed."""
ACCEPTED = (1_000, 4_000, 16_000)
"""Accepted questions that a proposal is compared with."""
POLL_EACH_S = 0.2
"""Seconds between two polls of a waiting player."""
ROUND_TRIP_MS, SYNC_MS = 0.3, 0.5
"""Assumed: a round trip in a data centre, of which an append holds the log for two, and a commit on a disk of its server."""
DECODE_TOKENS_PER_S = 60.0
"""Assumed: tokens a second of one completion of a 7B model in bfloat16 among many others on a GPU."""
DEPTH = 6
"""Batches one after the other in a typical episode: gap, lemma, its attempts, lift, its attempts, another task."""
GPUS_A_PLAYER = 4
APPENDS_AN_EPISODE = 200 / 128
"""Of the paper's iteration, measured: 200 appends for 64 guided and 64 real questions."""


@dataclass(frozen=True)
class Costs:
    """CPU milliseconds."""

    client: float
    """Of an append, where the player is."""
    server: float
    """Of an append, in PostgreSQL, which works on one at a time."""
    poll_client: float
    poll_server: float
    event_client: float
    """Of an event that somebody reads."""
    event_server: float
    novelty: dict[int, float]
    """Of one comparison, by accepted questions."""
    embedding: float
    """Of adding an accepted question."""

    @property
    def append(self) -> float:
        """Milliseconds for which an append holds the log, with network and disk as assumed."""
        return self.server + 2 * ROUND_TRIP_MS + SYNC_MS


def main(
    players: Annotated[str, typer.Option(help="Numbers of players.")] = "1,8,32,128,512",
    connections: Annotated[str, typer.Option(help="Numbers of connections that they share.")] = "1,4,32",
    speedup: Annotated[float, typer.Option(help="How often a simulated second goes into a real one.")] = World.speedup,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = DOCUMENT,
    figure: Annotated[Path, typer.Option(help="Where the figure is written.")] = FIGURE,
) -> None:
    """Simulate runs of many players, and measure what a coordinator does for each of them. Some minutes."""
    programs = find_postgres()
    if programs is None:
        raise BadInput("There is no PostgreSQL server to start; install one with .ci/postgres.")
    world, runs = replace(World(), speedup=speedup), list[SimulatedRun]()
    with postgres_server(programs, max_connections="200") as server:
        for size in map(int, connections.split(",")):
            for number in map(int, players.split(",")):
                with section.step(f"{number} players, {size} connections"):
                    runs.append(simulate(f"{server.url}?run=scale{len(runs)}", number, size, world))
        with section.step("polls and reads"):
            reading = _reading(f"{server.url}?run=scale{len(runs) - 1}", runs[-1].players)
    with section.step("novelty"):
        novelty, embedding = _novelty()
    appended = [(run.client_ms, run.server_ms) for run in runs if run.appends >= 100] or [
        (runs[-1].client_ms, runs[-1].server_ms)
    ]
    client, in_server = (sorted(values)[len(values) // 2] for values in zip(*appended, strict=True))
    costs = Costs(client, in_server, *reading, novelty, embedding)
    draw(runs, costs, world, figure)
    lines = [
        f"{section.machine(('psycopg', 'scikit-learn'))}.",
        "",
        *_simulated(runs, costs, world),
        "",
        *_costs(costs),
        "",
        *paper(costs),
    ]
    section.write(document, "scale", "Many players, simulated", lines, "python -m benchmarks.scale")


def queued_s(players: int, world: World, append_ms: float) -> float:
    """Seconds of a simulated run whose appends take turns, each for so long; the clock of no machine is involved."""
    seconds = 0.0
    for iteration in range(world.iterations):
        waits = [[0.0, *world.waits(player, iteration)] for player in range(players)]
        due = [(waits[player][0], player, 0) for player in range(players)]
        heapq.heapify(due)
        free = 0.0
        while due:
            at, player, step = heapq.heappop(due)
            free = max(free, at) + append_ms / 1000 * world.speedup
            if step + 1 < len(waits[player]):
                heapq.heappush(due, (free + waits[player][step + 1], player, step + 1))
        seconds += free + world.trainer_s
    return seconds


def _reading(url: str, players: int) -> tuple[float, float, float, float]:
    """CPU milliseconds of a poll of a waiting player, and of an event that one reads: here and in the server, each."""
    streams = {f"episode/00001/{player:03}": 2 for player in range(players)}

    async def nothing() -> None: ...

    with closing(open_log(url)) as log:
        assert isinstance(log, PostgresLog)
        board = ShareBoard(log, [Share("share 0", streams, nothing)])
        events = log.head().position

        def read() -> None:
            assert sum(bool(event.fact.kind) for event in log.read()) == events

        def poll() -> None:
            log.version(RUN)
            board.open()

        repeated = max(1, 100_000 // events)
        each = [_cost(log, read, repeated, events * repeated), _cost(log, poll, POLLS, POLLS)]
    return *each[1], *each[0]


def _cost(log: PostgresLog, work: Callable[[], None], times: int, units: int) -> tuple[float, float]:
    """CPU milliseconds of a unit of work, here and in the server."""
    pid = log._reader.info.backend_pid
    here, there = time.process_time(), cpu_s(pid)
    for _ in range(times):
        work()
    return 1000 * (time.process_time() - here) / units, 1000 * (cpu_s(pid) - there) / units


def _novelty() -> tuple[dict[int, float], float]:
    """CPU milliseconds of a comparison, by accepted questions; and of adding one question."""
    chance = random.Random(0)  # noqa: S311  # equal questions every time
    questions = [synthetic_question(chance, random_steps(chance, 3)).question for _ in range(1_000)]
    novelty, costs, size = Novelty(NgramEmbedding()), {}, 0
    began = time.process_time()
    novelty.add(*questions)
    embedding = (time.process_time() - began) / len(questions)
    for accepted in ACCEPTED:
        while size < accepted:
            size += len(questions)
            if size > len(questions):
                novelty.add(*questions)
        began = time.process_time()
        for question in questions[:20]:
            novelty.similarity(question)
        costs[accepted] = 1000 * (time.process_time() - began) / 20
    return costs, 1000 * embedding


def _simulated(runs: Sequence[SimulatedRun], costs: Costs, world: World) -> list[str]:
    """What the simulated runs took, by players and connections."""
    sizes = sorted({run.connections for run in runs})
    rows = []
    for number in sorted({run.players for run in runs} | set(COMPUTED)):
        by_size = {run.connections: run for run in runs if run.players == number}
        measured = [
            f"{run.slowdown:.2f} ({run.rate:.0f}/s, {run.cores:.0%})" if (run := by_size.get(size)) else "" for size in sizes
        ]
        computed = [f"{queued_s(number, world, ms) / world.ideal_s(number):.2f}" for ms in (costs.server, costs.append)]
        real, asked = (f"{value:,.0f}".replace(",", " ") for value in (number * world.speedup, world.asked(number)))
        rows.append([str(number), real, f"{asked}/s", *measured, *computed])
    head = ["players", "as many real ones", "appends asked for", *(counted(size, "connection") for size in sizes)]
    head += ["computed: a core for the server", "and network and disk"]
    return table(head, rows)


def _costs(costs: Costs) -> list[str]:
    """The measured costs, and how many a core takes."""
    rows = [
        ["an append, where the player is", f"{costs.client:.2f}", f"{1000 / costs.client:,.0f}"],
        ["an append, in the server, one at a time", f"{costs.server:.2f}", f"{1000 / costs.server:,.0f}"],
        [
            "a poll of a waiting player, in the server",
            f"{costs.poll_server:.2f}",
            f"{1000 / max(costs.poll_server, 0.01):,.0f}",
        ],
        ["an event that a player reads, where it is", f"{costs.event_client:.3f}", f"{1000 / costs.event_client:,.0f}"],
        [
            "an event that a player reads, in the server",
            f"{costs.event_server:.3f}",
            f"{1000 / max(costs.event_server, 0.001):,.0f}",
        ],
        ["an accepted question that a share adds", f"{costs.embedding:.2f}", f"{1000 / costs.embedding:,.0f}"],
        *([f"a comparison with {size} questions", f"{ms:.2f}", f"{1000 / ms:,.0f}"] for size, ms in costs.novelty.items()),
    ]
    return table(["", "CPU ms", "a core takes in a second"], [[*row[:2], row[2].replace(",", " ")] for row in rows])


def paper(costs: Costs) -> list[str]:
    """The paper's 7B run on more GPUs: its own iteration, and one that grows with them."""
    rows = [_paper(gpus, costs) for gpus in (8, 64, 512)]
    return table(["", "8 GPUs", "64 GPUs", "512 GPUs"], [[name, *(row[name] for row in rows)] for name in rows[0]])


def _paper(gpus: int, costs: Costs) -> dict[str, str]:
    settings = [f"serve.replicas={gpus}", f"learn.processes={gpus}", "serve.sleep=true"]
    config = with_overrides(configure(PAPER, []), settings)
    dims = dims_of(config.model)
    budget, work = Budget(config, dims, gpu_of("H100", dims)), tokens_of_iteration(config)
    factor, players = gpus / 4, gpus / GPUS_A_PLAYER
    sampled = 2 * dims.weights * work.tokens / (gpus * budget.gpu.peak * budget.gpu.sampling_mfu)
    floor = DEPTH * 1000 / DECODE_TOKENS_PER_S
    learned, synced = budget.learning_s(work), budget.weight_sync_s
    own = max(sampled, floor) + learned + synced
    # Grown: as much work a GPU as with four of them.
    grown_play, grown_learned = max(sampled * factor, floor), learned * factor
    grown = grown_play + grown_learned + synced
    appends = 128 * APPENDS_AN_EPISODE * factor
    rate = appends / grown_play
    accepted = 64 * factor
    last = 50 * accepted
    comparison = costs.novelty[max(costs.novelty)] / max(costs.novelty) * last
    repeats = accepted * (comparison / 50 + costs.embedding) / 1000
    polls = players / POLL_EACH_S * costs.poll_server / 1000
    reads = players * appends * costs.event_server / 1000
    return {
        "**the paper's iteration**: sampling at full load": f"{sampled:.0f} s",
        "its batches one after the other": f"{floor:.0f} s",
        "training; writing and syncing weights": f"{learned:.0f} s; {synced:.0f} s",
        "an iteration; 50 of them": f"{own:.0f} s; {50 * own / 3600:.1f} h",
        "of which GPUs are busy in sampling or training": f"{(sampled + learned) / own:.0%}",
        "**grown with the GPUs**: questions an iteration": f"{128 * factor:,.0f}".replace(",", " "),
        "an iteration": f"{grown:.0f} s",
        "of which GPUs are busy": f"{(sampled * factor + grown_learned) / grown:.0%}",
        "appends a second of play; the log is busy": f"{rate:.1f}; {rate * costs.append / 1000:.1%}",
        "polls of waiting players keep the server busy": f"{polls:.1%}",
        "reads of all events by all players, server CPU an iteration": f"{reads:.1f} s",
        "a comparison in iteration 50": f"{comparison:.0f} ms",
        "cross-share repeats, by the coordinator alone": f"{repeats:.1f} s",
        "adding what 50 iterations accepted, once a player": f"{last * costs.embedding / 1000:.0f} s",
    }


def draw(runs: Sequence[SimulatedRun], costs: Costs, world: World, file: Path) -> None:
    """The figure: slowdown and appends by players, and comparisons by accepted questions."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (slow, rates, novelty) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    numbers = sorted({run.players for run in runs} | set(COMPUTED))
    for size in sorted({run.connections for run in runs}):
        own = [run for run in runs if run.connections == size]
        slow.plot([run.players for run in own], [run.slowdown for run in own], "o-", label=counted(size, "connection"))
        rates.plot([run.players for run in own], [run.rate for run in own], "o-", label=counted(size, "connection"))
    for ms, style, label in (
        (costs.server, "k--", "computed: a core for the server"),
        (costs.append, "k:", "and network and disk"),
    ):
        slow.plot(numbers, [queued_s(number, world, ms) / world.ideal_s(number) for number in numbers], style, label=label)
    rates.plot(numbers, list(map(world.asked, numbers)), "k--", label="asked for")
    rates.axhline(1000 / costs.append, color="grey", label="computed: most, with network and disk")
    novelty.plot(list(costs.novelty), list(costs.novelty.values()), "o-")
    x = f"players, each as quick as {world.speedup:.0f}"
    for axes, title in ((slow, "Time, relative to a log that takes none"), (rates, "Appends a second of play")):
        axes.set(title=title, xlabel=x, xscale="log", yscale="log")
        axes.legend(fontsize="small")
    novelty.set(title="CPU ms of a novelty check", xlabel="accepted questions", xscale="log", yscale="log")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    run_main(main)
