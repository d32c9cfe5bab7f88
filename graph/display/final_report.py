"""What a run came to: the table at its end, and the commands that show more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.facts.digests import SHORT
from events.facts.log import Log
from events.facts.types import EvaluationFinished
from events.process.activity import format_duration
from events.projections.figures import IterationFigures
from events.projections.run_summary import RunSummary, fold
from events.reports.run_overview import nearest_goalposts
from events.reports.training_warnings import diagnose
from events.terminal.drawing import next_commands
from events.text.phrases import counted
from graph.display.iteration_row import accepted_text, all_seats, share

MOST_K = 20
"""Of pass@k, the smallest k and the largest up to this are shown."""


def final_report(log: Log, folder: Path) -> RenderableType:
    """The figures of a run, first and last, and the commands that show more."""
    summary = fold(RunSummary(), log.read())
    table = Table("", "before", "after", box=None, pad_edge=False, header_style="bold", title_justify="left")
    for row in (*_evaluation_rows(summary), *_proposal_rows(list(summary.iterations.values()))):
        table.add_row(*row)
    warnings = (Text(f"warning: {symptom}", style="yellow") for symptom in diagnose(summary))
    head = Text(f"head {log.head().digest}", style="dim")
    return Group(Text(), table, Text(_totals(summary)), *warnings, Text(), _next_commands(summary, folder), head)


def _evaluation_rows(summary: RunSummary) -> Iterator[tuple[str, ...]]:
    """Rows on each question set: a label, a figure of the first weights, empty if not evaluated, and of the last."""
    for name, label in (("goalposts", "goalposts"), ("validation", "validation questions"), ("test", "held-out questions")):
        if scores := [evaluation for evaluation in summary.evaluations if evaluation.name == name]:
            yield from _before_and_after(name, label, scores)


def _before_and_after(name: str, label: str, evaluations: Sequence[EvaluationFinished]) -> Iterator[tuple[str, ...]]:
    first, last = evaluations[0] if evaluations[0].iteration == 0 else None, evaluations[-1]

    def row(what: str, figure: Callable[[EvaluationFinished], str]) -> tuple[str, ...]:
        return what, "" if first is None else figure(first), figure(last)

    if name == "goalposts":
        yield row(f"mean gap to {len(last.successes)} goalposts", lambda scores: f"{1 - scores.pass_at[1]:.3f}")
        yield row("goalposts with a success", lambda scores: str(sum(map(bool, scores.successes.values()))))
    ks = [k for k in sorted(last.pass_at) if k <= MOST_K and (first is None or k in first.pass_at)]
    for k in dict.fromkeys(ks[:1] + ks[-1:]):
        yield row(f"pass@{k} on {len(last.successes)} {label}", partial(_pass_at, k))


def _pass_at(k: int, scores: EvaluationFinished) -> str:
    return f"{scores.pass_at[k]:.3f}"


def _proposal_rows(iterations: Sequence[IterationFigures]) -> Iterator[tuple[str, ...]]:
    """Rows on what the teacher wrote, from the first third of the iterations to the last."""
    third = max(1, len(iterations) // 3)
    parts = iterations[:third], iterations[-third:]
    aligned = [all_seats(part).aligned.value for part in parts]
    diversity = [_mean_diversity(part) for part in parts]
    for label, values in (("statements that say what their program does", aligned), ("diversity of questions", diversity)):
        if values != [None, None]:
            yield label, *map(share, values)


def _mean_diversity(iterations: Sequence[IterationFigures]) -> float | None:
    values = [value for figures in iterations if (value := all_seats([figures]).diversity) is not None]
    return sum(values) / len(values) if values else None


def _totals(summary: RunSummary) -> str:
    """What was played, accepted and rejected, in a sentence."""
    iterations = summary.iterations.values()
    failed = sum(figures.failed for figures in iterations)
    rejected = all_seats(iterations).rejected.most_common()
    return (
        f"{counted(len(iterations), 'iteration')} in {format_duration(summary.played)}, {summary.tokens:,} tokens; "
        f"accepted {accepted_text(summary, ' and ')}; {counted(failed, 'episode')} failed; rejected "
        + (", ".join(f"{count} {reason}" for reason, count in rejected) or "none")
    )


def _next_commands(summary: RunSummary, folder: Path) -> RenderableType:
    commands = [
        ("what happened", "events.trace", ""),
        *(
            ("why a goalpost was or was not solved", "events.trace", goalpost[:SHORT])
            for goalpost in nearest_goalposts(summary)[:1]
        ),
        ("the same in the browser", "events.web", ""),
        ("every hash", "events verify", ""),
    ]
    return next_commands(str(folder), commands)
