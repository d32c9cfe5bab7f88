"""Says in one or two sentences why a goalpost was or was not solved so far, from figures of the index alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from events.facts.values import Seat
from events.index.rows import AppearanceEntry, GapEntry, GoalpostEntry
from events.text.phrases import SEAT_NOUNS, count_text, counted

REASONS: Final = 3
"""Reasons of rejection that are named, the most frequent."""
_SEATS: Final[tuple[Seat, ...]] = ("easy", "hard")


def explain_goalpost(goalpost: GoalpostEntry, gaps: Sequence[GapEntry], proposals: Iterable[AppearanceEntry]) -> str:
    """The explanation, from all measures of the goalpost, in order, and what the teacher proposed in all of its episodes."""
    if not gaps:
        return "Not tried yet: nothing has measured it, neither an episode nor an evaluation."
    first = next((gap for gap in gaps if gap.successes), None)
    earlier = [proposal for proposal in proposals if first is None or proposal.position < first.position]
    result = _unsolved(gaps) if first is None else _solved(gaps, first)
    return f"{result} {_proposed(goalpost, earlier, solved=first is not None)}"


def statement_doubt(attempts: int | None, agreeing: int) -> str:
    """Why a statement may not describe its program; empty where failed attempts do not agree on other outputs."""
    if not agreeing:
        return ""
    return f"{agreeing} of {attempts} attempts agree with each other, not with the program: the statement may not describe it"


def _solved(gaps: Sequence[GapEntry], first: GapEntry) -> str:
    last = gaps[-1]
    start = f"Solved: first passed {_when(first)}, by {_ratio(first)} (measure {gaps.index(first) + 1} of {len(gaps)})"
    if last is first:
        return f"{start}."
    if not last.successes:
        return f"{start}; but by none of {last.attempts} at the last measure, {_when(last)}."
    return f"{start}; by {_ratio(last)} at the last, {_when(last)}."


def _unsolved(gaps: Sequence[GapEntry]) -> str:
    answers = sum(gap.attempts for gap in gaps)
    shares = [gap.best_share for gap in gaps if gap.best_share is not None]
    best = f"; the best passed {max(shares):.0%} of its tests" if shares else ""
    return f"Never passed: {counted(len(gaps), 'measure')}, {answers} answers, none right{best}."


def _when(gap: GapEntry) -> str:
    if gap.best_share is None:
        return f"in the evaluation after iteration {gap.iteration}" if gap.iteration else "before anything was learned"
    return f"in iteration {gap.iteration}"


def _ratio(gap: GapEntry) -> str:
    return f"{gap.successes} of {gap.attempts} answers"


def _proposed(goalpost: GoalpostEntry, proposals: Sequence[AppearanceEntry], *, solved: bool) -> str:
    when = "By then" if solved else "So far"
    if not goalpost.episodes:
        return "No episode was about it, so nothing was learned for it directly."
    if not proposals:
        return f"{when} the teacher had proposed nothing for it."
    counts = []
    for seat in _SEATS:
        accepted = [proposal.accepted is True for proposal in proposals if proposal.seat == seat]
        if accepted:
            counts.append(f"{sum(accepted) or 'none'} of {counted(len(accepted), f'proposed {SEAT_NOUNS[seat]}')}")
    total = sum(proposal.accepted is True for proposal in proposals)
    reasons = Counter(proposal.reason for proposal in proposals if proposal.reason).most_common(REASONS)
    rejected = f" (rejected: {count_text({str(reason): count for reason, count in reasons})})" if reasons else ""
    nothing = "" if total else "; nothing could be learned for it directly"
    return f"{when} {' and '.join(counts)} {'was' if total <= 1 else 'were'} accepted{rejected}{nothing}."
