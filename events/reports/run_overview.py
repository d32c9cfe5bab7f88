"""The figures of a run as tables for people and as plain data for programs.

Law: everything comes from `events.projections.run_summary.RunSummary`, so the live display, the final table and the trace
cannot disagree. It reads no log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table

from events.facts.digests import SHORT
from events.facts.types import EvaluationFinished, PolicyUpdated
from events.facts.values import QuestionId, Seat
from events.projections.run_summary import IterationFigures, RunSummary, SeatFigures
from events.reports.training_warnings import diagnose
from events.text.safe_text import markup

_LEFT = {"seat", "rejected", "set", "goalpost", "source", "solved", "policy", "first weights", "last weights"}
"""Columns of words."""
_BROKEN = {"rejected", "source", "pass@k"}
"""Columns whose cells go on over lines where a window is narrow; what is to be typed again, such as an id, stays whole."""
ROWS = 12
"""Rows of a table unless all are asked for."""
T = TypeVar("T")


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


def overview(summary: RunSummary, name: str = "", *, whole: bool = False) -> RenderableType:
    """What happened, in sentences, and the run's figures as tables: those that say most, or all."""
    parts: list[RenderableType] = [*_sentences(summary, name)]
    parts += [f"[yellow]warning[/]: {markup(str(symptom))}" for symptom in diagnose(summary)]
    tables = (
        _iterations(summary, whole),
        _teacher(summary) if whole else _seats(summary),
        _learning(summary) if whole else _policies(summary),
        _evaluations(summary, whole),
        _goalposts(summary, whole),
    )
    served = list(_served(summary))
    shown = [part for table in tables if table.row_count for part in ("", table)]
    return Group(*parts, *shown, *(["", *served] if served else []))


def solved_goalposts(summary: RunSummary) -> set[QuestionId]:
    """The goalposts of which an answer passed, in an episode or in an evaluation."""
    evaluated = {question for found in summary.evaluations for question, count in found.successes.items() if count}
    return {question for question, figures in summary.goalposts.items() if figures.best_share >= 1 or question in evaluated}


def nearest_goalposts(summary: RunSummary) -> list[QuestionId]:
    """The goalposts, those first that were answered best: in the last evaluation, then in the last episode, then ever."""
    passed, evaluated = solved_goalposts(summary), _evaluated(summary)

    def far(question: QuestionId) -> tuple[float, float, bool, float]:
        figures, (right, of) = summary.goalposts[question], evaluated.get(question, (0, 1))
        gap = 1.0 if figures.last_gap is None else figures.last_gap
        return (-right / of, gap, question not in passed, -figures.best_share)

    return sorted(summary.goalposts, key=far)


def _evaluated(summary: RunSummary) -> dict[QuestionId, tuple[int, int]]:
    """How many answers passed in the last evaluation of each question, of how many."""
    return {question: (count, found.attempts) for found in summary.evaluations for question, count in found.successes.items()}


def _sentences(summary: RunSummary, name: str) -> Iterator[str]:
    config = summary.started.config if summary.started else {}
    name = markup(name or str(config.get("name", "run")), 64)
    how = " on ".join(markup(str(config[key]), 64) for key in ("recipe", "model") if config.get(key))
    state = "finished" if summary.finished else "not finished"
    minutes, seconds = divmod(round(summary.played), 60)
    yield (
        f"[bold]{name}[/]: {f'{how}, ' if how else ''}{state}, "
        f"{plural(len(summary.iterations), 'iteration')} in {minutes}:{seconds:02}, {summary.position} events, "
        f"{summary.tokens} tokens"
    )
    if summary.goalposts:
        tried = sum(figures.measured > 0 for figures in summary.goalposts.values())
        passed = solved_goalposts(summary)
        whole = plural(len(summary.goalposts), "goalpost")
        yield f"An answer passed for {len(passed)} of {whole}; episodes tried {tried} of them."
    made = sum(seat.proposed for figures in summary.iterations.values() for seat in figures.seats.values())
    if made:
        rejected: Counter[str] = Counter()
        for figures in summary.iterations.values():
            for seat in figures.seats.values():
                rejected.update(seat.rejected)
        kinds = {"lemma": summary.lemmas, "lift": summary.lifts, "open question": summary.open_questions}
        kept = ", ".join(plural(count, kind) for kind, count in kinds.items() if count)
        yield (
            f"Of {plural(made, 'proposal')} of the teacher {sum(kinds.values())} were accepted{f' ({kept})' if kept else ''}; "
            f"rejected: {count_text(rejected) or 'none'}."
        )


def _served(summary: RunSummary) -> Iterator[str]:
    for role, fact in summary.served.items():
        far = fact.difference
        proof = (
            "" if far is None else f", whose logprobs are the trainer's within {far:.1e} nats (mean {fact.mean_difference:.1e})"
        )
        yield f"{role} is served by {fact.policy[:SHORT]}{proof}"


def _table(title: str, *columns: str, shown: int = 0, of: int = 0) -> Table:
    full = f"{title}, {shown} of {of} (--all shows all)" if shown < of else title
    table = Table(title=full, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=column not in _BROKEN)
    return table


def _thinned(items: Sequence[T], whole: bool) -> list[T]:
    """All, or so few that they fit on a screen: the first, the last, and some between them at equal distances."""
    if whole or len(items) <= ROWS:
        return list(items)
    return [items[round(place * (len(items) - 1) / (ROWS - 1))] for place in range(ROWS)]


def _iterations(summary: RunSummary, whole: bool) -> Table:
    columns = ("#", "episodes", "failed", "gap", "practice", "reward", "lemmas", "lifts", "tokens", "seconds")
    shown = _thinned(list(summary.iterations.values()), whole)
    table = _table("Iterations", *columns, shown=len(shown), of=len(summary.iterations))
    for figures in shown:
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


_SEAT = ("made", "kept", "rate", "aligned", "similar", "parents", "reward", "rejected")


def _teacher(summary: RunSummary) -> Table:
    table = _table("Teacher", "#", "seat", *_SEAT)
    for figures in summary.iterations.values():
        for name, seat in figures.seats.items():
            if seat.proposed:
                table.add_row(str(figures.number), name, *_seat(seat))
    return table


def _seats(summary: RunSummary) -> Table:
    """The teacher's seats, all iterations together."""
    table = _table("Teacher", "seat", *_SEAT)
    totals: dict[Seat, SeatFigures] = {}
    for figures in summary.iterations.values():
        for name, seat in figures.seats.items():
            totals.setdefault(name, SeatFigures()).add(seat)
    for name, seat in totals.items():
        if seat.proposed:
            table.add_row(name, *_seat(seat))
    return table


def _seat(seat: SeatFigures) -> tuple[str, ...]:
    return (
        str(seat.proposed),
        str(seat.accepted),
        number(seat.pass_rate.value),
        number(seat.aligned.value),
        number(seat.similarity.value),
        str(len(seat.parents)),
        number(seat.reward.value),
        count_text(seat.rejected),
    )


def _learning(summary: RunSummary) -> Table:
    table = _table("Learning", "#", "policy", "digest", "step", "groups", "silent", "samples", "tokens", "reward")
    for update in summary.updates:
        steps = update.steps
        table.add_row(
            str(update.iteration),
            markup(update.policy, 16),
            update.digest[:SHORT],
            str(update.step),
            str(sum(step.groups for step in steps)),
            str(sum(step.silent_groups for step in steps)),
            str(sum(step.samples for step in steps)),
            str(sum(step.tokens for step in steps)),
            number(_reward(update)),
        )
    return table


def _policies(summary: RunSummary) -> Table:
    """Each policy from its first weights to its last."""
    table = _table("Policies", "policy", "updates", "steps", "first weights", "last weights", "first reward", "last reward")
    updates: dict[str, list[PolicyUpdated]] = {}
    for update in summary.updates:
        updates.setdefault(update.policy, []).append(update)
    for policy, of in updates.items():
        weights = of[0].parent[:SHORT], of[-1].digest[:SHORT]
        rewards = number(_reward(of[0])), number(_reward(of[-1]))
        table.add_row(markup(policy, 16), str(len(of)), str(of[-1].step), *weights, *rewards)
    return table


def _reward(update: PolicyUpdated) -> float:
    return sum(step.reward * step.groups for step in update.steps) / max(1, sum(step.groups for step in update.steps))


def _evaluations(summary: RunSummary, whole: bool) -> Table:
    """Every evaluation, or the first and the last on each set."""
    of: dict[str, list[EvaluationFinished]] = {}
    for found in summary.evaluations:
        of.setdefault(found.name, []).append(found)
    ends = [found for sets in of.values() for found in (sets if len(sets) < 2 else [sets[0], sets[-1]])]
    shown = summary.evaluations if whole else ends
    columns = ("set", "after", "policy", "questions", "solved", "pass@k")
    table = _table("Evaluations", *columns, shown=len(shown), of=len(summary.evaluations))
    for found in shown:
        right = sum(count > 0 for count in found.successes.values())
        shares = ", ".join(f"@{k} {share:.3f}" for k, share in sorted(found.pass_at.items()))
        who = found.policy[:SHORT]
        table.add_row(markup(found.name, 20), str(found.iteration), who, str(len(found.successes)), str(right), shares)
    return table


def _goalposts(summary: RunSummary, whole: bool) -> Table:
    order, passed, evaluated = nearest_goalposts(summary), solved_goalposts(summary), _evaluated(summary)
    shown = order if whole else order[:ROWS]
    columns = ("goalpost", "source", "solved", "evaluated", "episodes", "first gap", "last gap", "nearest")
    table = _table("Goalposts, the nearest first", *columns, shown=len(shown), of=len(order))
    for question in shown:
        figures = summary.goalposts[question]
        right = "{}/{}".format(*evaluated[question]) if question in evaluated else "–"
        nearest_share = share(figures.best_share if figures.measured else None)
        gaps = number(figures.first_gap), number(figures.last_gap), nearest_share
        claims = "yes" if question in passed else "no", right, str(figures.measured)
        table.add_row(question[:SHORT], markup(figures.source, 32), *claims, *gaps)
    return table


def count_text(counter: Mapping[str, int]) -> str:
    """`3 wrong answer, 2 passed`."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in Counter(counter).most_common())


def plural(count: int, noun: str) -> str:
    """`1 lemma`, `2 lemmas`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def number(value: float | None) -> str:
    """Two decimals, or a dash for nothing."""
    return "–" if value is None else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share of 1 in percent, or a dash for nothing."""
    return "–" if value is None else f"{value:.0%}"
