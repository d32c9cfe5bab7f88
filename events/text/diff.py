"""What changed between two texts, line by line, and within lines that were rewritten.

Law: total, and with bounded work on whatever a model wrote: texts and lines that are too large to be compared closely are
compared at their beginnings and ends only. Carriage returns before line ends do not count; nothing else is changed, so that
spans stay right when the text is made safe to show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final, Literal, NamedTuple

Span = tuple[int, int]
"""A range of characters."""

_LINES: Final = 90_000
"""Pairs of lines that are compared at most."""
_WORDS: Final = 200_000
"""Pairs of words that are compared in all lines together before only lines are."""
_LINE_WORDS: Final = 10_000
"""Pairs of words that are compared at most in two lines."""
_LEAST: Final = 100
"""What the comparison of two lines counts for at least."""
_ALIKE: Final = 0.4
"""Share that two lines must have in common to count as one that was rewritten."""
_WORD: Final = re.compile(r"\w+|\s+|.")


class DiffLine(NamedTuple):
    """A line that stayed, went or came."""

    mark: Literal[" ", "-", "+"]
    text: str
    spans: tuple[Span, ...] = ()
    """What changed in it, where another line took its place; empty where all of it is new or gone."""


def diff_lines(old: str, new: str) -> list[DiffLine]:
    """All lines of both texts, in order, those that went before those that came in their place."""
    before, after = _lines(old), _lines(new)
    budget = _WORDS
    found: list[DiffLine] = []
    for tag, start, end, begin, stop in _changes(before, after, _LINES):
        if tag == "equal":
            found += [DiffLine(" ", text) for text in before[start:end]]
            continue
        went, came = before[start:end], after[begin:stop]
        marked: list[tuple[tuple[Span, ...], tuple[Span, ...]]] = []
        for left, right in zip(went, came, strict=False):
            if budget <= 0:
                break
            words, others = _WORD.findall(left), _WORD.findall(right)
            budget -= max(_LEAST, len(words) + len(others), min(len(words) * len(others), _LINE_WORDS))
            marked.append(_spans(words, others))
        marked += [((), ())] * (max(len(went), len(came)) - len(marked))
        found += [DiffLine("-", text, gone) for text, (gone, _) in zip(went, marked, strict=False)]
        found += [DiffLine("+", text, new) for text, (_, new) in zip(came, marked, strict=False)]
    return found


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n") if text else []


def _spans(words: Sequence[str], others: Sequence[str]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The characters that changed in each of two lines; none where the lines have too little in common."""
    changes = _changes(words, others, _LINE_WORDS)
    alike = sum(end - start for tag, start, end, _, _ in changes if tag == "equal")
    if 2 * alike < _ALIKE * (len(words) + len(others)):
        return (), ()
    changed = [change for change in changes if change[0] != "equal"]
    left, right = _ends(words), _ends(others)
    return (
        tuple((left[start], left[end]) for _, start, end, _, _ in changed if start < end),
        tuple((right[begin], right[stop]) for _, _, _, begin, stop in changed if begin < stop),
    )


def _ends(words: Sequence[str]) -> list[int]:
    """Where each word begins, and the end."""
    places = [0]
    for word in words:
        places.append(places[-1] + len(word))
    return places


def _changes(before: Sequence[str], after: Sequence[str], most: int) -> list[tuple[str, int, int, int, int]]:
    """Opcodes as `difflib` gives them; all between the ends is one where more than `most` pairs were to be compared."""
    shorter = min(len(before), len(after))
    head = next((place for place in range(shorter) if before[place] != after[place]), shorter)
    tail = next((place for place in range(shorter - head) if before[-1 - place] != after[-1 - place]), shorter - head)
    left, right = len(before) - tail, len(after) - tail
    if (left - head) * (right - head) > most:
        middle = [("replace", head, left, head, right)]
    else:
        matcher = SequenceMatcher(None, before[head:left], after[head:right])
        middle = [(tag, head + a, head + b, head + c, head + d) for tag, a, b, c, d in matcher.get_opcodes()]
    same = [("equal", 0, head, 0, head)] if head else []
    ending = [("equal", left, len(before), right, len(after))] if tail else []
    return [*same, *middle, *ending]
