"""What a person sees of a run: a live table while it is played, and a final report.

Guarantees: every figure of the run comes from the log, so a resumed run shows what an undisturbed one would. Only what this
process does just now, and its warnings, come from its `Activity`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from events.facts.digests import SHORT
from events.facts.log import Log
from events.facts.streams import is_episode
from events.facts.types import EvaluationFinished
from events.facts.values import OptimizerStep, Seat
from events.process.activity import LOG_INTERVAL_S, REPORT_INTERVAL_S, Activity, format_duration
from events.projections.figures import IterationFigures, SeatFigures
from events.projections.run_summary import RunSummary, fold
from events.reports.learning import step_header, step_lines
from events.reports.run_overview import nearest_goalposts
from events.reports.training_warnings import LOGPROB_METRIC, diagnose
from events.terminal.drawing import next_commands
from events.text.logging import logger
from events.text.phrases import counted
from events.text.safe_text import one_line
from graph.play import state
from graph.play.edges import successor
from graph.play.state import EpisodeState
from graph.settings.config import Config, PlaySettings

REFRESH_S = 0.5
"""Seconds between two reads of the log."""
TABLE_ITERATIONS = 10
"""Rows of the live table: the latest iterations."""
PLAYERS_SHOWN = 8
"""Players in the live display."""
SEATS: tuple[Seat, ...] = ("easy", "hard", "open")


class RunMonitor:
    """A run's summary and its open episodes, kept up to date with a growing log."""

    def __init__(self, log: Log, config: Config) -> None:
        self._log = log
        self._play, self._plan = config.play, config.algorithm().plan
        self.summary = RunSummary()
        self._episodes: dict[str, EpisodeState] = {}

    def update(self) -> None:
        """Apply the new events."""
        for event in self._log.read(after=self.summary.position):
            self.summary.apply(event)
            if is_episode(event.stream):
                episode = state.fold_episode(self._episodes.pop(event.stream, EpisodeState(stream=event.stream)), [event])
                if not episode.ended:
                    self._episodes[event.stream] = episode

    @property
    def nodes(self) -> Counter[str]:
        """Number of open episodes by the node that works on them."""
        return Counter(successor(episode, self._play, self._plan).strip("_") for episode in self._episodes.values())


async def show(log: Log, console: Console, config: Config, activity: Activity, *, plain: bool) -> None:
    """Show a run until cancelled: live on a terminal, otherwise a line an iteration and every ten seconds without another."""
    monitor = RunMonitor(log, config)
    if plain:
        await _print(monitor, console, activity)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            monitor.update()
            doing = one_line(str(activity))
            live.update(
                live_view(monitor, expected_iterations(monitor.summary, config.play), doing, activity.warnings), refresh=True
            )
            await asyncio.sleep(REFRESH_S)


async def _print(monitor: RunMonitor, console: Console, activity: Activity) -> None:
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


def expected_iterations(summary: RunSummary, play: PlaySettings) -> int:
    """Iterations that will be played: `play.iterations`, or fewer if `play.samples` are spent before."""
    played = max(summary.samples.after)
    spent = summary.samples.after[played]
    return min(play.iterations, math.ceil(play.samples * played / spent)) if play.samples and spent else play.iterations


def progress_lines(summary: RunSummary) -> Iterator[tuple[object, str]]:
    """One line for each evaluation, learned iteration and training warning, with a key that identifies it."""
    for evaluation in summary.evaluations:
        if evaluation.iteration == 0:
            yield (evaluation.name, 0), _evaluation_line(evaluation)
    for number, steps in _learned(summary).items():
        row = _row(summary.iterations[number], steps)
        figures = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:], row[1:], strict=True) if value)
        yield number, f"iteration {number}: {figures}"
    for symptom in diagnose(summary):
        yield symptom.key, f"warning: {symptom}"
    for evaluation in summary.evaluations:
        if evaluation.iteration:
            yield (evaluation.name, evaluation.iteration), _evaluation_line(evaluation)


def _evaluation_line(evaluation: EvaluationFinished) -> str:
    scores = ", ".join(f"pass@{k} {value:.3f}" for k, value in evaluation.pass_at.items() if k in {1, 20})
    return f"{evaluation.name} after {evaluation.iteration} iterations: {scores} ({len(evaluation.successes)} questions)"


def live_view(monitor: RunMonitor, iterations: int, doing: str, warnings: Sequence[str] = ()) -> RenderableType:
    """The live display."""
    summary = monitor.summary
    learned = _learned(summary)
    done = len(learned)
    behind = max(summary.samples.after) - max(learned, default=0)
    elapsed = summary.played + _seconds(summary.latest, datetime.now(UTC))
    head = Text.assemble(
        ("GASP ", "bold"),
        f"iteration {min(done + 1, iterations)} of {iterations}   ",
        f"{format_duration(elapsed)} played, {_left(summary, iterations)} left   ",
        f"{summary.tokens / max(elapsed, 1):,.0f} tokens/s   {_accepted(summary, ', ')}",
        f"   learning is {counted(behind, 'iteration')} behind" * (behind > 0),
    )
    nodes = "  ".join(f"{node} {count}" for node, count in sorted(monitor.nodes.items()))
    now = Text(f"{doing or 'waiting'}   {nodes}", style="dim", no_wrap=True, overflow="ellipsis")
    latest = list(summary.iterations.values())[-TABLE_ITERATIONS:]
    table = _table([_row(figures, learned.get(figures.number, [])) for figures in latest])
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


COLUMNS = (
    "it, failed, gap, best, lemma p, lemmas, lift p, lifts, open p, open, real-data, aligned, diversity, rejected, mismatch"
    ", zero-adv"
).split(", ")


def _learned(summary: RunSummary) -> dict[int, list[OptimizerStep]]:
    """The optimizer steps taken for each learned iteration."""
    steps: dict[int, list[OptimizerStep]] = {}
    for update in summary.updates:
        steps.setdefault(update.iteration, []).extend(update.steps)
    return steps


def _row(figures: IterationFigures, steps: Sequence[OptimizerStep]) -> list[str]:
    seats = figures.seats.values()
    easy, hard, opened = (figures.seats.get(seat, SeatFigures()) for seat in SEATS)
    rejected = sum((seat.rejected for seat in seats), Counter[str]()).most_common(2)
    aligned, measured = sum(seat.aligned.total for seat in seats), sum(seat.aligned.count for seat in seats)
    zero_advantage = sum(step.silent_groups for step in steps), sum(step.groups for step in steps)
    mismatch = max((step.metrics.get(LOGPROB_METRIC, 0.0) for step in steps), default=None)
    return [
        str(figures.number),
        str(figures.failed or ""),
        _share(figures.gap.value),
        _share(figures.best_share.value),
        _share(easy.pass_rate.value),
        f"{easy.accepted}/{easy.proposed}",
        _share(hard.pass_rate.value),
        f"{hard.accepted}/{hard.proposed}",
        _share(opened.pass_rate.value),
        f"{opened.accepted}/{opened.proposed}" if opened.proposed else "",
        _share(figures.practice.value),
        _share(aligned / measured if measured else None),
        _share(_diversity(figures)),
        " ".join(f"{reason} {count}" for reason, count in rejected),
        "" if mismatch is None else f"{mismatch:.3f}",
        f"{zero_advantage[0]}/{zero_advantage[1]}" if steps else "",
    ]


def _accepted(summary: RunSummary, joint: str) -> str:
    if summary.open_questions:
        return f"{summary.open_questions} open questions"
    return f"{summary.lemmas} lemmas{joint}{summary.lifts} lifts"


def _diversity(figures: IterationFigures) -> float | None:
    total = sum(seat.similarity.total for seat in figures.seats.values())
    count = sum(seat.similarity.count for seat in figures.seats.values())
    return 1 - total / count if count else None


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0


def _left(summary: RunSummary, iterations: int) -> str:
    """Time left, by the duration of the latest iterations."""
    ended = [summary.iterations[number] for number in _learned(summary)][-5:]
    if len(ended) < 2:
        return "?"
    pace = _seconds(ended[0].began, ended[-1].began) / (len(ended) - 1)
    return format_duration(pace * (iterations - ended[-1].number))


def _before_and_after(name: str, label: str, evaluations: Sequence[EvaluationFinished]) -> Iterator[tuple[str, ...]]:
    """Rows on a question set: a label, a figure of the first weights, empty where those were not evaluated, and of the last."""
    first, last = evaluations[0] if evaluations[0].iteration == 0 else None, evaluations[-1]

    def row(what: str, figure: Callable[[EvaluationFinished], str]) -> tuple[str, ...]:
        return what, "" if first is None else figure(first), figure(last)

    if name == "goalposts":
        yield row(f"mean gap to {len(last.successes)} goalposts", lambda scores: f"{1 - scores.pass_at[1]:.3f}")
        yield row("goalposts with a success", lambda scores: str(sum(map(bool, scores.successes.values()))))
    ks = [k for k in sorted(last.pass_at) if k <= 20 and (first is None or k in first.pass_at)]
    for k in dict.fromkeys(ks[:1] + ks[-1:]):
        yield row(f"pass@{k} on {len(last.successes)} {label}", partial(_pass_at, k))


def _pass_at(k: int, evaluation: EvaluationFinished) -> str:
    return f"{evaluation.pass_at[k]:.3f}"


def final_report(log: Log, folder: Path) -> RenderableType:
    """The table at the end of a run, and the commands that show more."""
    summary = fold(RunSummary(), log.read())
    table = Table("", "before", "after", box=None, pad_edge=False, header_style="bold", title_justify="left")
    for name, label in (("goalposts", "goalposts"), ("validation", "validation questions"), ("test", "held-out questions")):
        scores = [evaluation for evaluation in summary.evaluations if evaluation.name == name]
        if not scores:
            continue
        for row in _before_and_after(name, label, scores):
            table.add_row(*row)
    rejected: Counter[str] = Counter()
    for figures in summary.iterations.values():
        rejected = sum((seat.rejected for seat in figures.seats.values()), rejected)
    ended = list(summary.iterations.values())
    failed = sum(figures.failed for figures in ended)
    third = max(1, len(ended) // 3)
    for label, of in (
        ("statements that say what their program does", _mean_aligned),
        ("diversity of questions", _mean_diversity),
    ):
        shares = of(ended[:third]), of(ended[-third:])
        if shares != (None, None):
            table.add_row(label, *map(_share, shares))
    facts = (
        f"{counted(len(ended), 'iteration')} in {format_duration(summary.played)}, {summary.tokens:,} tokens; "
        f"accepted {_accepted(summary, ' and ')}; {counted(failed, 'episode')} failed; rejected "
        + (", ".join(f"{count} {reason}" for reason, count in rejected.most_common()) or "none")
    )
    commands = [
        ("what happened", "events.trace", ""),
        *(
            ("why a goalpost was or was not solved", "events.trace", goalpost[:SHORT])
            for goalpost in nearest_goalposts(summary)[:1]
        ),
        ("the same in the browser", "events.web", ""),
        ("every hash", "events verify", ""),
    ]
    deeper = next_commands(str(folder), commands)
    return Group(
        Text(), table, Text(facts), *_symptoms(summary), Text(), deeper, Text(f"head {log.head().digest}", style="dim")
    )


def _mean_aligned(iterations: list[IterationFigures]) -> float | None:
    seats = [seat for figures in iterations for seat in figures.seats.values()]
    count = sum(seat.aligned.count for seat in seats)
    return sum(seat.aligned.total for seat in seats) / count if count else None


def _mean_diversity(iterations: list[IterationFigures]) -> float | None:
    values = [value for figures in iterations if (value := _diversity(figures)) is not None]
    return sum(values) / len(values) if values else None
