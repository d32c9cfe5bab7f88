"""Line diff of two texts, with the spans that changed inside rewritten lines.

Guarantees:
- Work is bounded on hostile text: what is too large is compared at its beginning and end only.
- Carriage returns before line ends do not count; nothing else is changed, so that spans stay right when the text is made safe
  to show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Final, Literal, NamedTuple

Span = tuple[int, int]
"""Start and end (exclusive) of a range of characters in a line."""

_LINES: Final = 90_000
"""Most pairs of lines that are compared."""
_WORDS: Final = 200_000
"""Most pairs of words that are compared in all lines together; then only lines are compared."""
_LINE_WORDS: Final = 10_000
"""Most pairs of words that are compared in two lines."""
_MIN_COST: Final = 100
"""Least that the comparison of two lines takes from the budget."""
_MIN_SIMILARITY: Final = 0.4
"""Share of words that two lines must have in common to count as one rewritten line."""
_WORD: Final = re.compile(r"\w+|\s+|.")


class DiffLine(NamedTuple):
    """A line that is unchanged, removed or added."""

    mark: Literal[" ", "-", "+"]
    text: str
    spans: tuple[Span, ...] = ()
    """What changed in a rewritten line; empty where the whole line was added or removed."""


def diff_lines(old: str, new: str) -> list[DiffLine]:
    """All lines of both texts in order; removed lines come before those that replace them."""
    before, after = _lines(old), _lines(new)
    budget = _WORDS
    lines: list[DiffLine] = []
    for tag, start, end, begin, stop in _changes(before, after, _LINES):
        if tag == "equal":
            lines += [DiffLine(" ", text) for text in before[start:end]]
            continue
        removed, added = before[start:end], after[begin:stop]
        marked: list[tuple[tuple[Span, ...], tuple[Span, ...]]] = []
        for left, right in zip(removed, added, strict=False):
            if budget <= 0:
                break
            words, others = _WORD.findall(left), _WORD.findall(right)
            budget -= max(_MIN_COST, len(words) + len(others), min(len(words) * len(others), _LINE_WORDS))
            marked.append(_spans(words, others))
        marked += [((), ())] * (max(len(removed), len(added)) - len(marked))
        lines += [DiffLine("-", text, old_spans) for text, (old_spans, _) in zip(removed, marked, strict=False)]
        lines += [DiffLine("+", text, new_spans) for text, (_, new_spans) in zip(added, marked, strict=False)]
    return lines


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").split("\n") if text else []


def _spans(words: Sequence[str], others: Sequence[str]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The changed spans of each of two lines; none where the lines have too little in common."""
    changes = _changes(words, others, _LINE_WORDS)
    alike = sum(end - start for tag, start, end, _, _ in changes if tag == "equal")
    if 2 * alike < _MIN_SIMILARITY * (len(words) + len(others)):
        return (), ()
    changed = [change for change in changes if change[0] != "equal"]
    left, right = _ends(words), _ends(others)
    return (
        tuple((left[start], left[end]) for _, start, end, _, _ in changed if start < end),
        tuple((right[begin], right[stop]) for _, _, _, begin, stop in changed if begin < stop),
    )


def _ends(words: Sequence[str]) -> list[int]:
    """The offset of each word, and that of the end."""
    return list(accumulate(map(len, words), initial=0))


def _changes(before: Sequence[str], after: Sequence[str], most: int) -> list[tuple[str, int, int, int, int]]:
    """Opcodes as of `difflib`; the middle is a single replacement where it has more than `most` pairs to compare."""
    shorter = min(len(before), len(after))
    # Equal beginnings and ends cost nothing; only the middle is compared.
    head = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    tail = next((i for i in range(shorter - head) if before[-1 - i] != after[-1 - i]), shorter - head)
    left, right = len(before) - tail, len(after) - tail
    if (left - head) * (right - head) > most:
        middle = [("replace", head, left, head, right)]
    else:
        matcher = SequenceMatcher(None, before[head:left], after[head:right])
        middle = [(tag, head + a, head + b, head + c, head + d) for tag, a, b, c, d in matcher.get_opcodes()]
    same = [("equal", 0, head, 0, head)] if head else []
    ending = [("equal", left, len(before), right, len(after))] if tail else []
    return [*same, *middle, *ending]
