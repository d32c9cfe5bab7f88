"""The figures of a run as tables for people and as plain data for programs.

Law: everything comes from `events.projections.RunSummary`, so the live display, the final table and the trace cannot disagree.
It reads no log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from events.diagnosis import diagnose
from events.projections import IterationFigures, RunSummary
from events.safe_text import markup

SHORT = 8
"""Hex digits of an id that are shown."""
_LEFT = {"seat", "rejected", "set", "goalpost", "source"}
"""Columns of words."""


def overview_json(summary: RunSummary) -> dict[str, Any]:
    """The run's figures as plain data."""
    return {
        "position": summary.position,
        "finished": summary.finished,
        "resumed": summary.resumed,
        "lemmas": summary.lemmas,
        "lifts": summary.lifts,
        "tokens": summary.tokens,
        "policies": summary.policies,
        "served": {role: fact.model_dump(mode="json") for role, fact in summary.served.items()},
        "iterations": [_iteration_json(figures) for figures in summary.iterations.values()],
        "updates": [update.model_dump(mode="json") for update in summary.updates],
        "warnings": [symptom._asdict() for symptom in diagnose(summary)],
        "evaluations": [evaluation.model_dump(mode="json") for evaluation in summary.evaluations],
        "goalposts": {question: asdict(figures) for question, figures in summary.goalposts.items()},
    }


def _iteration_json(figures: IterationFigures) -> dict[str, Any]:
    seats = {
        name: {
            "proposed": seat.proposed,
            "accepted": seat.accepted,
            "rejected": dict(seat.rejected),
            "pass_rate": seat.pass_rate.value,
            "aligned": seat.aligned.value,
            "similarity": seat.similarity.value,
            "diversity": seat.diversity,
            "parents": len(seat.parents),
            "reward": seat.reward.value,
        }
        for name, seat in figures.seats.items()
    }
    return {
        "iteration": figures.number,
        "began": figures.began.isoformat(),
        "ended": figures.ended.isoformat() if figures.ended else None,
        "episodes": figures.episodes,
        "finished": figures.finished,
        "failed": figures.failed,
        "endings": dict(figures.endings),
        "gap": figures.gap.value,
        "practice": figures.practice.value,
        "student_reward": figures.student_reward.value,
        "tokens": figures.tokens,
        "seats": seats,
    }


def overview(summary: RunSummary) -> RenderableType:
    """The run's figures as tables."""
    state = "finished" if summary.finished else "not finished"
    name = markup(str(summary.started.config.get("name", "run")), 64) if summary.started else "run"
    line = (
        f"{name}: {state}, {summary.position} events, {summary.lemmas} lemmas, {summary.lifts} lifts, {summary.tokens} tokens"
    )
    tables = (_iterations(summary), _teacher(summary), _learning(summary), _evaluations(summary), _goalposts(summary))
    warnings = [f"[yellow]warning[/]: {markup(str(symptom))}" for symptom in diagnose(summary)]
    return Group(line, *_served(summary), *warnings, *(part for table in tables if table.row_count for part in ("", table)))


def _served(summary: RunSummary) -> Iterator[str]:
    for role, fact in summary.served.items():
        far = fact.difference
        proof = (
            "" if far is None else f", whose logprobs are the trainer's within {far:.1e} nats (mean {fact.mean_difference:.1e})"
        )
        yield f"{role} is served by {fact.policy[:SHORT]}{proof}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=column != "rejected")
    return table


def _iterations(summary: RunSummary) -> Table:
    table = _table("Iterations", "#", "episodes", "failed", "gap", "practice", "reward", "lemmas", "lifts", "tokens", "seconds")
    for figures in summary.iterations.values():
        ended = figures.ended or summary.latest or figures.began
        table.add_row(
            str(figures.number),
            f"{figures.finished}/{figures.episodes}",
            str(figures.failed),
            number(figures.gap.value),
            number(figures.practice.value),
            number(figures.student_reward.value),
            str(figures.seats["easy"].accepted),
            str(figures.seats["hard"].accepted),
            str(figures.tokens),
            f"{(ended - figures.began).total_seconds():.0f}",
        )
    return table


def _teacher(summary: RunSummary) -> Table:
    columns = ("#", "seat", "made", "kept", "rate", "aligned", "similar", "parents", "reward", "rejected")
    table = _table("Teacher", *columns)
    for figures in summary.iterations.values():
        for name, seat in figures.seats.items():
            if seat.proposed:
                table.add_row(
                    str(figures.number),
                    name,
                    str(seat.proposed),
                    str(seat.accepted),
                    number(seat.pass_rate.value),
                    number(seat.aligned.value),
                    number(seat.similarity.value),
                    str(len(seat.parents)),
                    number(seat.reward.value),
                    counts(seat.rejected),
                )
    return table


def _learning(summary: RunSummary) -> Table:
    table = _table("Learning", "#", "policy", "digest", "step", "groups", "silent", "samples", "tokens", "reward")
    for update in summary.updates:
        steps = update.steps
        rewards = sum(step.reward * step.groups for step in steps) / max(1, sum(step.groups for step in steps))
        table.add_row(
            str(update.iteration),
            markup(update.policy, 16),
            update.digest[:SHORT],
            str(update.step),
            str(sum(step.groups for step in steps)),
            str(sum(step.silent_groups for step in steps)),
            str(sum(step.samples for step in steps)),
            str(sum(step.tokens for step in steps)),
            number(rewards),
        )
    return table


def _evaluations(summary: RunSummary) -> Table:
    table = _table("Examinations", "set", "after", "policy", "questions", "solved", "pass@k")
    for found in summary.evaluations:
        solved = sum(count > 0 for count in found.successes.values())
        shares = ", ".join(f"@{k} {share:.3f}" for k, share in sorted(found.pass_at.items()))
        who = found.policy[:SHORT]
        table.add_row(markup(found.name, 20), str(found.iteration), who, str(len(found.successes)), str(solved), shares)
    return table


def _goalposts(summary: RunSummary) -> Table:
    table = _table("Goalposts", "goalpost", "source", "measured", "first gap", "last gap", "best share")
    for question, figures in summary.goalposts.items():
        gaps = number(figures.first_gap), number(figures.last_gap), number(figures.best_share)
        table.add_row(question[:SHORT], markup(figures.source, 32), str(figures.measured), *gaps)
    return table


def counts(counter: Mapping[str, int]) -> str:
    """`3 wrong answer, 2 passed`."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in Counter(counter).most_common())


def number(value: float | None) -> str:
    """Two decimals, or a dash for nothing."""
    return "–" if value is None else f"{value:.2f}"
