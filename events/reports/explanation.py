"""Why a goalpost was or was not solved so far, in one or two plain sentences.

Law: a pure function of what the index says; it names figures and guesses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from events.facts.streams import is_evaluation
from events.index.rows import AppearanceEntry, GapEntry, GoalpostEntry
from events.reports.run_overview import plural

REASONS = 3
"""Reasons of rejections that are named, the most frequent."""
_NAMES = {"easy": "lemma", "hard": "lift"}


def why(goalpost: GoalpostEntry, gaps: Sequence[GapEntry], proposals: Iterable[AppearanceEntry]) -> str:
    """The sentences.

    Args:
        goalpost: which.
        gaps: every measure of it, in order.
        proposals: what the teacher proposed in all of its episodes.
    """
    if not gaps:
        return "Not tried yet: nothing has measured it, neither an episode nor an examination."
    first = next((gap for gap in gaps if gap.successes), None)
    until = first.position if first else None
    made = [one for one in proposals if until is None or one.position < until]
    return f"{_unsolved(gaps) if first is None else _solved(gaps, first)} {_taught(goalpost, made, solved=first is not None)}"


def _solved(gaps: Sequence[GapEntry], first: GapEntry) -> str:
    place, last = gaps.index(first), gaps[-1]
    start = f"Solved: first passed {_where(first)}, by {_of(first)} (measure {place + 1} of {len(gaps)})"
    if last is first:
        return f"{start}."
    if not last.successes:
        return f"{start}; but by none of {last.attempts} at the last measure, {_where(last)}."
    return f"{start}; by {_of(last)} at the last, {_where(last)}."


def _unsolved(gaps: Sequence[GapEntry]) -> str:
    answers = sum(gap.attempts for gap in gaps)
    shares = [gap.best_share for gap in gaps if gap.best_share is not None]
    best = f"; the nearest passed {max(shares):.0%} of its tests" if shares else ""
    return f"Never passed: {plural(len(gaps), 'measure')}, {answers} answers, none right{best}."


def _where(gap: GapEntry) -> str:
    if is_evaluation(gap.stream):
        return f"in the examination after iteration {gap.iteration}" if gap.iteration else "before anything was learned"
    return f"in iteration {gap.iteration}"


def _of(gap: GapEntry) -> str:
    return f"{gap.successes} of {gap.attempts} answers"


def _taught(goalpost: GoalpostEntry, made: Sequence[AppearanceEntry], *, solved: bool) -> str:
    then = "By then" if solved else "So far"
    if not goalpost.episodes:
        return "No episode was about it, so nothing was learned for it directly."
    if not made:
        return f"{then} the teacher had proposed nothing for it."
    counts = []
    for seat, name in _NAMES.items():
        of = [one for one in made if one.seat == seat]
        if of:
            kept = sum(one.accepted is True for one in of)
            counts.append(f"{kept or 'none'} of {plural(len(of), f'proposed {name}')}")
    kept = sum(one.accepted is True for one in made)
    said = f"{then} {' and '.join(counts)} {'was' if kept <= 1 else 'were'} accepted"
    reasons = Counter(one.reason for one in made if one.reason).most_common(REASONS)
    listed = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons)
    refused = f" (rejected: {listed})" if listed else ""
    nothing = "; nothing could be learned for it directly" if not kept else ""
    return f"{said}{refused}{nothing}."
