"""Shows a run while it is played: a live table on a terminal, a line an iteration otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from events.facts.log import Log
from events.facts.types import EvaluationFinished
from events.process.activity import LOG_INTERVAL_S, REPORT_INTERVAL_S, Activity, format_duration
from events.projections.run_summary import RunSummary
from events.reports.learning import step_header, step_lines
from events.reports.training_warnings import diagnose
from events.text.logging import logger
from events.text.phrases import counted
from events.text.safe_text import one_line
from graph.display.iteration_row import COLUMNS, accepted_text, iteration_row, learned_steps
from graph.display.run_monitor import RunMonitor, expected_iterations
from graph.settings.config import Config

REFRESH_S = 0.5
"""Seconds between two reads of the log."""
TABLE_ITERATIONS = 10
"""Rows of the live table: the latest iterations."""
PLAYERS_SHOWN = 8
"""Players in the live display."""


async def show(log: Log, console: Console, config: Config, activity: Activity, *, plain: bool) -> None:
    """Show a run until cancelled: live on a terminal, otherwise a line an iteration and every ten seconds without another."""
    monitor = RunMonitor(log, config)
    if plain:
        await _print_lines(monitor, console, activity)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            monitor.update()
            iterations = expected_iterations(monitor.summary, config.play)
            live.update(live_view(monitor, iterations, one_line(str(activity)), activity.warnings), refresh=True)
            await asyncio.sleep(REFRESH_S)


async def _print_lines(monitor: RunMonitor, console: Console, activity: Activity) -> None:
    """Print each line of progress and each warning once, and what is being done where nothing else is new for a while."""
    printed: set[object] = set()
    latest = time.monotonic()
    while True:
        monitor.update()
        warned = ((("warning", number), f"warning: {warning}") for number, warning in enumerate(activity.warnings))
        fresh = [(key, line) for key, line in (*progress_lines(monitor.summary), *warned) if key not in printed]
        if not fresh and time.monotonic() - latest >= REPORT_INTERVAL_S and (doing := str(activity)):
            fresh = [(None, doing)]
        for key, line in fresh:
            printed.add(key)
            latest = time.monotonic()
            console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
        await asyncio.sleep(REFRESH_S)


async def log_progress(activity: Activity) -> None:
    """Write progress into the process's operational log every half minute, until cancelled."""
    while True:
        await asyncio.sleep(LOG_INTERVAL_S)
        logger().info("progress", doing=str(activity))


def progress_lines(summary: RunSummary) -> Iterator[tuple[object, str]]:
    """One line for each evaluation, learned iteration and training warning, with a key that identifies it."""
    for evaluation in summary.evaluations:
        if evaluation.iteration == 0:
            yield (evaluation.name, 0), _evaluation_line(evaluation)
    for number, steps in learned_steps(summary).items():
        row = iteration_row(summary.iterations[number], steps)
        figures = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:], row[1:], strict=True) if value)
        yield number, f"iteration {number}: {figures}"
    for symptom in diagnose(summary):
        yield symptom.key, f"warning: {symptom}"
    for evaluation in summary.evaluations:
        if evaluation.iteration:
            yield (evaluation.name, evaluation.iteration), _evaluation_line(evaluation)


def _evaluation_line(evaluation: EvaluationFinished) -> str:
    scores = ", ".join(f"pass@{k} {value:.3f}" for k, value in evaluation.pass_at.items() if k in {1, 20})
    asked = counted(len(evaluation.successes), "question")
    return f"{evaluation.name} after {counted(evaluation.iteration, 'iteration')}: {scores} ({asked})"


def live_view(monitor: RunMonitor, iterations: int, doing: str, warnings: Sequence[str] = ()) -> RenderableType:
    """The live display; `iterations` are those that will be played, `doing` is what this process does now."""
    summary = monitor.summary
    learned = learned_steps(summary)
    done = len(learned)
    behind = max(summary.samples.after) - max(learned, default=0)
    elapsed = summary.played + _seconds(summary.latest, datetime.now(UTC))
    head = Text.assemble(
        ("GASP ", "bold"),
        f"iteration {min(done + 1, iterations)} of {iterations}   ",
        f"{format_duration(elapsed)} played, {_left(summary, iterations)} left   ",
        f"{summary.tokens / max(elapsed, 1):,.0f} tokens/s   {accepted_text(summary, ', ')}",
        f"   learning is {counted(behind, 'iteration')} behind" * (behind > 0),
    )
    nodes = "  ".join(f"{node} {count}" for node, count in sorted(monitor.nodes.items()))
    now = Text(f"{doing or 'waiting'}   {nodes}", style="dim", no_wrap=True, overflow="ellipsis")
    latest = list(summary.iterations.values())[-TABLE_ITERATIONS:]
    table = _table([iteration_row(figures, learned.get(figures.number, [])) for figures in latest])
    evaluations = [Text(_evaluation_line(evaluation)) for evaluation in summary.evaluations[-2:]]
    bar = Padding(ProgressBar(total=max(iterations, 1), completed=done, width=60), 0)
    warned = (Text(f"warning: {one_line(warning)}", style="yellow") for warning in warnings[-3:])
    players = _players(summary, datetime.now(UTC))
    return Group(head, bar, now, *players, table, *_latest_steps(summary), *_symptoms(summary), *warned, *evaluations)


def _players(summary: RunSummary, now: datetime) -> Iterator[Text]:
    """What each player does, those that appended last first."""
    latest = sorted(summary.players.figures.values(), key=lambda player: player.latest, reverse=True)
    for player in latest[:PLAYERS_SHOWN]:
        since, silent = (format_duration(_seconds(time, now)) for time in (player.since, player.latest))
        speed = "" if player.speed is None else f", {player.speed:,.0f} tokens/s"
        line = f"{player.name}: {player.share} since {since}, silent for {silent}, {player.episodes} episodes{speed}"
        yield Text(one_line(line), style="dim", no_wrap=True, overflow="ellipsis")
    if len(latest) > PLAYERS_SHOWN:
        yield Text(f"and {len(latest) - PLAYERS_SHOWN} other players", style="dim")


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """Rows under those of `COLUMNS` that hold something, as wide as their longest word; only reasons take what is left."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    columns = [number for number in range(len(COLUMNS)) if any(row[number] for row in rows)]
    for number in columns:
        header = COLUMNS[number].replace("-", " ")
        words = " ".join([header, *(row[number] for row in rows)]).split()
        longest = max(map(len, words))
        table.add_column(header, min_width=longest, max_width=None if header == "rejected" else longest)
    for row in rows:
        table.add_row(*(row[number] for number in columns))
    return table


def _latest_steps(summary: RunSummary) -> Iterator[Text]:
    """What the trainer did with the last iteration that it learned."""
    latest = [update for update in summary.updates if update.iteration == summary.updates[-1].iteration]
    if latest:
        yield Text(step_header(), style="bold", no_wrap=True)
    for update in latest:
        for line in step_lines(summary, update):
            yield Text(line, no_wrap=True)


def _symptoms(summary: RunSummary) -> Iterator[Text]:
    return (Text(f"warning: {symptom}", style="yellow") for symptom in diagnose(summary))


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0


def _left(summary: RunSummary, iterations: int) -> str:
    """Time left, by the duration of the latest iterations."""
    ended = [summary.iterations[number] for number in learned_steps(summary)][-5:]
    if len(ended) < 2:
        return "?"
    pace = _seconds(ended[0].began, ended[-1].began) / (len(ended) - 1)
    return format_duration(pace * (iterations - ended[-1].number))
