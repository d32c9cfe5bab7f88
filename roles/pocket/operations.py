"""The operations of the pocket world: each is a phrase, a line of Python, and the same mapping as a function.

Guarantees: within a family, phrase and code name one mapping, and `apply` computes exactly what the code computes, so nothing
in this package executes text. An operation is defined for all values of its family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, get_args

Family = Literal["lists", "strings", "numbers", "nested"]
"""Type of the values that a question works on; a composition stays within one family."""
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)


@dataclass(frozen=True)
class Operation:
    """One step of a program. `{k}` in phrase and code stands for the parameter."""

    name: str
    """Unique, `family.word`."""
    family: Family
    phrase: str
    code: str
    """Right-hand side of `x = ...`."""
    apply: Callable[[Any, int], Any]
    """The mapping; the second argument is the parameter (0 where there is none)."""
    parameters: tuple[int, ...] = ()
    """Values of `{k}`; empty where there is none."""
    group: str = ""
    """Group of look-alikes; empty for common operations."""
    known: float = 1.0
    """How often pretraining answers the phrase with the right line; the rest are look-alikes."""
    target: bool = False
    """Whether goalposts are made of it."""

    @property
    def rare(self) -> bool:
        """Whether the student half knows it."""
        return bool(self.group)


_Row = tuple[str, str, str, Callable[[Any, int], Any]]
_VOWELS: Final = "aeiou"

_COMMON: Final[dict[Family, list[tuple[str, str, str, Callable[[Any, int], Any], tuple[int, ...]]]]] = {
    "lists": [
        ("add", "add {k} to each", "[v + {k} for v in x]", lambda x, k: [v + k for v in x], (1, 2, 3, 4, 5, 6, 7)),
        ("times", "multiply each by {k}", "[v * {k} for v in x]", lambda x, k: [v * k for v in x], (2, 3, 4)),
        ("reverse", "reverse it", "x[::-1]", lambda x, _: x[::-1], ()),
        ("sort", "sort it", "sorted(x)", lambda x, _: sorted(x), ()),
        ("tail", "drop the first", "x[1:]", lambda x, _: x[1:], ()),
        ("append", "append {k}", "x + [{k}]", lambda x, k: [*x, k], (1, 2, 3, 4, 5, 6, 7)),
    ],
    "strings": [
        ("reverse", "spell it backwards", "x[::-1]", lambda x, _: x[::-1], ()),
        ("sort", "sort the letters", "''.join(sorted(x))", lambda x, _: "".join(sorted(x)), ()),
        ("tail", "drop the first letter", "x[1:]", lambda x, _: x[1:], ()),
        ("chop", "drop the last letter", "x[:-1]", lambda x, _: x[:-1], ()),
        ("pad", "append {k} times z", "x + 'z' * {k}", lambda x, k: x + "z" * k, (1, 2, 3)),
        ("front", "put {k} times y in front", "'y' * {k} + x", lambda x, k: "y" * k + x, (1, 2, 3)),
    ],
    "numbers": [
        ("add", "add {k}", "x + {k}", lambda x, k: x + k, (1, 2, 3, 4, 5, 6, 7)),
        ("times", "multiply by {k}", "x * {k}", lambda x, k: x * k, (2, 3, 4)),
        ("halve", "halve it", "x // 2", lambda x, _: x // 2, ()),
        ("chop", "drop the last digit", "x // 10", lambda x, _: x // 10, ()),
        ("append", "append the digit {k}", "x * 10 + {k}", lambda x, k: x * 10 + k, (1, 2, 3, 4, 5, 6, 7)),
        ("reverse", "reverse the digits", "int(str(x)[::-1])", lambda x, _: int(str(x)[::-1]), ()),
    ],
    "nested": [
        ("add", "add {k} to every cell", "[[v + {k} for v in r] for r in x]",
         lambda x, k: [[v + k for v in r] for r in x], (1, 2, 3, 4, 5, 6, 7)),
        ("times", "multiply every cell by {k}", "[[v * {k} for v in r] for r in x]",
         lambda x, k: [[v * k for v in r] for r in x], (2, 3, 4)),
        ("flip", "reverse the rows", "x[::-1]", lambda x, _: x[::-1], ()),
        ("reverse", "reverse each row", "[r[::-1] for r in x]", lambda x, _: [r[::-1] for r in x], ()),
        ("sort", "sort each row", "[sorted(r) for r in x]", lambda x, _: [sorted(r) for r in x], ()),
        ("tail", "drop the first row", "x[1:]", lambda x, _: x[1:], ()),
    ],
}  # fmt: skip

_RARE: Final[dict[str, list[_Row]]] = {
    "lists.moves": [
        ("left", "rotate left", "x[1:] + x[:1]", lambda x, _: x[1:] + x[:1]),
        ("right", "rotate right", "x[-1:] + x[:-1]", lambda x, _: x[-1:] + x[:-1]),
        ("halves", "swap the halves", "x[len(x) // 2:] + x[:len(x) // 2]",
         lambda x, _: x[len(x) // 2 :] + x[: len(x) // 2]),
        ("ends", "swap the ends", "x[-1:] + x[1:-1] + x[:1]", lambda x, _: x[-1:] + x[1:-1] + x[:1]),
    ],
    "lists.running": [
        ("sums", "take running sums", "[sum(x[:i + 1]) for i in range(len(x))]",
         lambda x, _: [sum(x[: i + 1]) for i in range(len(x))]),
        ("maxima", "take running maxima", "[max(x[:i + 1]) for i in range(len(x))]",
         lambda x, _: [max(x[: i + 1]) for i in range(len(x))]),
        ("minima", "take running minima", "[min(x[:i + 1]) for i in range(len(x))]",
         lambda x, _: [min(x[: i + 1]) for i in range(len(x))]),
        ("suffix", "take suffix sums", "[sum(x[i:]) for i in range(len(x))]",
         lambda x, _: [sum(x[i:]) for i in range(len(x))]),
    ],
    "lists.places": [
        ("plus", "add its place to each", "[v + i for i, v in enumerate(x)]",
         lambda x, _: [v + i for i, v in enumerate(x)]),
        ("by", "multiply each by its place", "[v * i for i, v in enumerate(x)]",
         lambda x, _: [v * i for i, v in enumerate(x)]),
        ("gaps", "take the gaps", "[b - a for a, b in zip(x, x[1:])]",
         lambda x, _: [b - a for a, b in pairwise(x)]),
        ("pairs", "add up neighbours", "[a + b for a, b in zip(x, x[1:])]",
         lambda x, _: [a + b for a, b in pairwise(x)]),
    ],
    "strings.alphabet": [
        ("forward", "shift letters forward", "''.join(chr((ord(c) - 96) % 26 + 97) for c in x)",
         lambda x, _: "".join(chr((ord(c) - 96) % 26 + 97) for c in x)),
        ("backward", "shift letters backward", "''.join(chr((ord(c) - 98) % 26 + 97) for c in x)",
         lambda x, _: "".join(chr((ord(c) - 98) % 26 + 97) for c in x)),
        ("mirror", "mirror the alphabet", "''.join(chr(219 - ord(c)) for c in x)",
         lambda x, _: "".join(chr(219 - ord(c)) for c in x)),
        ("place", "shift letters by place", "''.join(chr((ord(c) - 97 + i) % 26 + 97) for i, c in enumerate(x))",
         lambda x, _: "".join(chr((ord(c) - 97 + i) % 26 + 97) for i, c in enumerate(x))),
    ],
    "strings.vowels": [
        ("twice", "double the vowels", "''.join(c * 2 if c in 'aeiou' else c for c in x)",
         lambda x, _: "".join(c * 2 if c in _VOWELS else c for c in x)),
        ("others", "double the consonants", "''.join(c if c in 'aeiou' else c * 2 for c in x)",
         lambda x, _: "".join(c if c in _VOWELS else c * 2 for c in x)),
        ("drop", "drop the vowels", "''.join(c for c in x if c not in 'aeiou')",
         lambda x, _: "".join(c for c in x if c not in _VOWELS)),
        ("once", "drop repeated letters", "''.join(dict.fromkeys(x))", lambda x, _: "".join(dict.fromkeys(x))),
    ],
    "strings.echoes": [
        ("after", "append its mirror image", "x + x[::-1]", lambda x, _: x + x[::-1]),
        ("before", "prepend its mirror image", "x[::-1] + x", lambda x, _: x[::-1] + x),
        ("even", "keep every second letter", "x[::2]", lambda x, _: x[::2]),
        ("odd", "skip every second letter", "x[1::2]", lambda x, _: x[1::2]),
    ],
    "numbers.digits": [
        ("left", "rotate the digits left", "int(str(x)[1:] + str(x)[0])", lambda x, _: int(str(x)[1:] + str(x)[0])),
        ("right", "rotate the digits right", "int(str(x)[-1] + str(x)[:-1])",
         lambda x, _: int(str(x)[-1] + str(x)[:-1])),
        ("up", "sort the digits", "int(''.join(sorted(str(x))))", lambda x, _: int("".join(sorted(str(x))))),
        ("down", "sort the digits downwards", "int(''.join(sorted(str(x), reverse=True)))",
         lambda x, _: int("".join(sorted(str(x), reverse=True)))),
    ],
    "numbers.counts": [
        ("plus", "add the digit sum", "x + sum(map(int, str(x)))", lambda x, _: x + sum(map(int, str(x)))),
        ("minus", "subtract the digit sum", "x - sum(map(int, str(x)))", lambda x, _: x - sum(map(int, str(x)))),
        ("length", "add the digit count", "x + len(str(x))", lambda x, _: x + len(str(x))),
        ("by", "multiply by the digit count", "x * len(str(x))", lambda x, _: x * len(str(x))),
    ],
    "numbers.rounding": [
        ("down", "round down to tens", "x - x % 10", lambda x, _: x - x % 10),
        ("up", "round up to tens", "x + -x % 10", lambda x, _: x + -x % 10),
        ("flip", "flip the last bit", "x ^ 1", lambda x, _: x ^ 1),
        ("clear", "clear the lowest set bit", "x & (x - 1)", lambda x, _: x & (x - 1)),
    ],
    "nested.order": [
        ("sum", "sort the rows by sum", "sorted(x, key=sum)", lambda x, _: sorted(x, key=sum)),
        ("length", "sort the rows by length", "sorted(x, key=len)", lambda x, _: sorted(x, key=len)),
        ("last", "sort the rows by last cell", "sorted(x, key=lambda r: r[-1:])",
         lambda x, _: sorted(x, key=lambda r: r[-1:])),
        ("first", "sort the rows by first cell", "sorted(x, key=lambda r: r[:1])",
         lambda x, _: sorted(x, key=lambda r: r[:1])),
    ],
    "nested.margins": [
        ("after", "append row sums", "[r + [sum(r)] for r in x]", lambda x, _: [[*r, sum(r)] for r in x]),
        ("before", "prepend row sums", "[[sum(r)] + r for r in x]", lambda x, _: [[sum(r), *r] for r in x]),
        ("count", "append row lengths", "[r + [len(r)] for r in x]", lambda x, _: [[*r, len(r)] for r in x]),
        ("again", "repeat each last cell", "[r + r[-1:] for r in x]", lambda x, _: [r + r[-1:] for r in x]),
    ],
    "nested.turns": [
        ("left", "rotate each row left", "[r[1:] + r[:1] for r in x]", lambda x, _: [r[1:] + r[:1] for r in x]),
        ("right", "rotate each row right", "[r[-1:] + r[:-1] for r in x]", lambda x, _: [r[-1:] + r[:-1] for r in x]),
        ("mirror", "extend each row by its mirror", "[r + r[::-1] for r in x]", lambda x, _: [r + r[::-1] for r in x]),
        ("tail", "drop each first cell", "[r[1:] for r in x]", lambda x, _: [r[1:] for r in x]),
    ],
}  # fmt: skip

TARGET_GROUPS: Final = ("lists.moves", "lists.running", "strings.alphabet", "strings.vowels")
"""Goalposts are made of these groups only, so that guidance has a direction."""
_KNOWN: Final = (0.40, 0.46, 0.52, 0.58)
_KNOWN_TARGET: Final = (0.26, 0.32, 0.38, 0.44)


def _table() -> tuple[Operation, ...]:
    common = [
        Operation(f"{family}.{name}", family, phrase, code, apply, ks)
        for family, rows in _COMMON.items()
        for name, phrase, code, apply, ks in rows
    ]
    rare = []
    for group, rows in _RARE.items():
        family = next(f for f in FAMILIES if f == group.split(".")[0])
        target = group in TARGET_GROUPS
        for (name, phrase, code, apply), known in zip(rows, _KNOWN_TARGET if target else _KNOWN, strict=True):
            rare.append(Operation(f"{group}.{name}", family, phrase, code, apply, (), group, known, target))
    return (*common, *rare)


OPERATIONS: Final[tuple[Operation, ...]] = _table()
"""All operations, the common ones first."""


def look_alikes(operation: Operation) -> tuple[Operation, ...]:
    """The other operations of its group; the first is the one it is usually mistaken for."""
    group = [o for o in OPERATIONS if o.group == operation.group and o.rare]
    place = group.index(operation)
    return (*group[place + 1 :], *group[:place])
