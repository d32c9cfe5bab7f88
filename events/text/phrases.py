"""Numbers, counts and names as short phrases, for tables, pages and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from events.facts.certainty_facts import TextGiven
from events.facts.label_facts import LabelVoted
from events.facts.values import Seat

SEAT_NOUNS: Final[Mapping[Seat, str]] = {"easy": "lemma", "hard": "lift", "open": "open question"}
"""What each of the teacher's seats writes."""
MISSING: Final = "–"
"""Stands for a value that there is not."""


def plural(noun: str) -> str:
    """`lemmas`."""
    return f"{noun}s"


def counted(count: int, noun: str) -> str:
    """`1 lemma`, `2 lemmas`."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def count_text(counts: Mapping[str, int]) -> str:
    """Counts by name, the largest first: `3 wrong answer, 2 passed`."""
    return ", ".join(f"{count} {words(name)}" for name, count in Counter(counts).most_common())


def words(name: str) -> str:
    """An identifier as words: `wrong answer` for `wrong_answer`."""
    return name.replace("_", " ")


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share of 1 in percent."""
    return MISSING if value is None else f"{value:.0%}"


def text_sentence(text: TextGiven) -> str:
    """That a text was given to learn, as a clause without a full stop."""
    kind = {None: "", True: " as a certain answer", False: " as an uncertain one"}[text.certain]
    return f"given to the student to learn{kind}, {text.length} tokens"


def vote_sentence(vote: LabelVoted) -> str:
    """What the answers voted, and how good the label is, as a clause without a full stop."""
    if vote.informed is False:
        return f"without the document {vote.votes} of {vote.attempts} answers have equal outputs{_truth(vote)}"
    if not vote.votes:
        return f"none of {vote.attempts} answers has an output for every input, so nobody voted"
    against = f" against {vote.runner_up}" if vote.runner_up else ""
    counts = f"{vote.votes} of {vote.attempts} answers have equal outputs{against}"
    if vote.label is None:
        return f"{counts}: a tie, so there is no label"
    own = "the program's outputs" if vote.agrees else "not the program's outputs"
    which = " with the document" if vote.informed else ""
    return f"{counts}{which}: they are the label ({own}){_truth(vote)}"


def _truth(vote: LabelVoted) -> str:
    return "" if vote.right is None else f", which is {'right' if vote.right else 'wrong'}"
