"""Why a goalpost was or was not solved so far, in one sentence that the terminal and the browser share.

Law: it says what was measured and what became of the curriculum, in figures; it claims no cause that the log cannot show. It
asks the index alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from events.index.read import Index
from events.index.rows import Appearance, Gap
from events.values import QuestionId

EPISODES: Final = 200
"""Of so many episodes at most, the latest, the proposals are counted."""
REASONS: Final = 3
"""So many reasons of rejections are named, the commonest."""


def why(index: Index, goalpost: QuestionId) -> str:
    """The sentence about a goalpost."""
    gaps, episodes = index.gaps(goalpost), index.episodes(goalpost, limit=EPISODES)
    proposals = [proposal for episode in episodes for proposal in index.proposals(episode.stream)]
    if not gaps:
        return "Nobody has measured it yet." if not episodes else "It is being tried, and not measured yet."
    first = next((gap for gap in gaps if gap.successes), None)
    return _unsolved(gaps, proposals) if first is None else _solved(first, gaps, proposals)


def _solved(first: Gap, gaps: Sequence[Gap], proposals: Sequence[Appearance]) -> str:
    passed = f"{first.successes} of {_count(first.attempts, 'attempt')}"
    misses = gaps.index(first)
    if misses == 0:
        begin = f"Within reach from the start: {passed} passed when it was first measured, {_when(first)}"
    else:
        earlier = [proposal for proposal in proposals if proposal.position < first.position]
        lemmas, lifts = _kept(earlier, "lemma"), _kept(earlier, "lift")
        built = f", {_count(len(lemmas), 'accepted lemma')} and {_count(len(lifts), 'lift')}" if lemmas else " and no lemma"
        begin = f"Solved for the first time {_when(first)} ({passed}), after {_count(misses, 'measure')} without success{built}"
    last = gaps[-1]
    if last is first:
        return f"{begin}; it has not been measured since."
    now = f"{last.successes} of {last.attempts} passed {_when(last)}"
    if last.successes == 0:
        return f"{begin}; but {now}, so the gap is back at {last.gap:.2f}."
    return f"{begin}; {now}, so the gap went from {gaps[0].gap:.2f} to {last.gap:.2f}."


def _unsolved(gaps: Sequence[Gap], proposals: Sequence[Appearance]) -> str:
    attempts = sum(gap.attempts for gap in gaps)
    begin = f"Not solved: none of {_count(attempts, 'attempt')} in {_count(len(gaps), 'measure')} passed"
    shares = [gap.best_share for gap in gaps if gap.best_share is not None]
    near = _near(max(shares)) if shares else ""
    lemmas, lifts = _kept(proposals, "lemma"), _kept(proposals, "lift")
    if not proposals:
        return f"{begin}{near}; the teacher has proposed nothing towards it yet."
    if not lemmas:
        tried = [proposal for proposal in proposals if proposal.origin == "lemma"]
        return f"{begin}{near}; no lemma was accepted of {_count(len(tried), 'proposal')}{_reasons(tried)}."
    learned = f"{_count(len(lemmas), 'accepted lemma')}, of which the student solves {_rate(lemmas)}"
    if not lifts:
        tried = [proposal for proposal in proposals if proposal.origin == "lift"]
        return f"{begin}{near}; there are {learned}, but of {_count(len(tried), 'lift')} none was accepted{_reasons(tried)}."
    return (
        f"{begin}{near}; what was learned on {learned}, and {_count(len(lifts), 'lift')} ({_rate(lifts)}) has not reached it."
    )


def _near(share: float) -> str:
    return (
        f", and the nearest in an episode passed {100 * share:.0f} % of its tests"
        if share
        else ", and none in an episode passed a single test"
    )


def _when(gap: Gap) -> str:
    return f"in iteration {gap.iteration}" if gap.best_share is not None else _examined(gap.iteration)


def _examined(iteration: int) -> str:
    return f"in the examination after iteration {iteration}" if iteration else "in the first examination"


def _kept(proposals: Sequence[Appearance], origin: str) -> list[Appearance]:
    return [proposal for proposal in proposals if proposal.origin == origin and proposal.accepted]


def _rate(questions: Sequence[Appearance]) -> str:
    """The share of attempts at the questions that passed."""
    made = sum(question.attempts or 0 for question in questions)
    return f"{100 * sum(question.successes or 0 for question in questions) / made:.0f} %" if made else "an unknown share"


def _reasons(proposals: Sequence[Appearance]) -> str:
    counts = Counter(proposal.reason for proposal in proposals if proposal.reason is not None).most_common(REASONS)
    named = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts)
    return f" ({named})" if named else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
