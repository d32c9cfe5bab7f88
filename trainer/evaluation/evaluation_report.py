"""What an evaluation measured, for people and as JSON: pass@k with confidence intervals, and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from events.facts.certainty_facts import CalibrationFinished
from events.facts.digests import SHORT
from events.facts.types import EvaluationFinished
from events.pure.estimators import CONFIDENCE, pass_at_k, pass_at_k_interval
from events.text.phrases import counted, number
from events.text.safe_text import markup


def result_dict(result: EvaluationFinished, ks: Sequence[int]) -> dict[str, Any]:
    """The result as JSON data, with an interval for each pass@k."""
    counts, attempts = list(result.successes.values()), result.attempts
    rows = {k: {"value": pass_at_k(attempts, counts, k), **pass_at_k_interval(attempts, counts, k)._asdict()} for k in ks}
    return {**result.model_dump(mode="json"), "confidence": CONFIDENCE, "pass_at": rows}


def result_report(
    result: EvaluationFinished, ks: Sequence[int], where: str, calibration: CalibrationFinished | None = None
) -> RenderableType:
    """The result as a table."""
    table = Table("", "", f"{CONFIDENCE:.0%} interval", box=None, pad_edge=False, header_style="bold")
    for k, row in result_dict(result, ks)["pass_at"].items():
        table.add_row(f"pass@{k}", f"{row['value']:.3f}", f"{row['low']:.3f} – {row['high']:.3f}")
    solved = sum(map(bool, result.successes.values()))
    head = (
        f"[bold]{markup(result.name)}[/]: policy {result.policy[:SHORT]} after"
        f" {counted(result.iteration, 'iteration')}; {result.attempts}"
        f" completions to each of {len(result.successes)} questions at temperature {result.sampling.temperature:g}; {solved}"
        " questions solved"
    )
    parts = [] if calibration is None else list(_certainty_lines(calibration))
    return Group(head, table, *parts, f"[dim]{markup(where)}[/]")


def _certainty_lines(fact: CalibrationFinished) -> Iterator[str]:
    yield (
        f"average precision {number(fact.ap_certainty, 3)} by confidence and certainty, {number(fact.ap_confidence, 3)} by"
        f" confidence alone; calibration error {fact.ece:.3f}"
    )
    yield (
        f"accuracy {fact.accuracy:.3f} of all answers, {number(fact.accuracy_answered, 3)} of the {fact.answered} of"
        f" {fact.answers} that it is sure of; {fact.refused} refused"
    )
