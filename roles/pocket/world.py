"""The pocket world: questions composed of operations, their statements, programs, inputs and splits.

Guarantees: a composition, its statement and its program say the same, and either text can be read back into the composition;
splits are disjoint by structure (the sequence of operations); everything is a pure function of the arguments and the generator.
Programs are read, never executed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from events.facts.values import IOPair, Question
from roles.pocket.operations import FAMILIES, OPERATIONS, Family, Operation

Split = Literal["train", "validation", "test", "goalposts"]
"""Which questions may share a structure: none across splits."""
Region = Literal["world", "target", "rest"]
"""Where rare operations are drawn from: everywhere, from those that goalposts are made of, or from the others."""
Size = Literal["small", "usual", "large"]
"""How big inputs are; the `io` axis varies it."""

_OPENERS: Final[dict[Family, str]] = {
    "lists": "Given a list",
    "strings": "Given a word",
    "numbers": "Given a number",
    "nested": "Given rows of numbers",
}
_LENGTHS: Final[dict[Family, dict[Size, tuple[int, int]]]] = {
    "lists": {"small": (2, 3), "usual": (4, 5), "large": (6, 7)},
    "strings": {"small": (3, 4), "usual": (5, 6), "large": (7, 8)},
    "numbers": {"small": (2, 3), "usual": (3, 4), "large": (5, 6)},
    "nested": {"small": (2, 2), "usual": (3, 3), "large": (4, 4)},
}
_WIDTHS: Final[dict[Size, tuple[int, int]]] = {"large": (3, 4)}
"""Fewest and most cells of a row, where they are not 2 and 3."""
_COMMENT: Final = "    # "
_LETTERS: Final = "aeioubcdfst"
_LONGEST: Final = 64
"""Outputs whose literal is longer make a question unreadable."""


@dataclass(frozen=True)
class Step:
    """An operation with its parameter (0 where it has none)."""

    operation: Operation
    k: int = 0

    @property
    def phrase(self) -> str:
        """The words for it."""
        return self.operation.phrase.replace("{k}", str(self.k))

    @property
    def line(self) -> str:
        """The line of Python for it."""
        return f"    x = {self.operation.code.replace('{k}', str(self.k))}"


Composition = tuple[Step, ...]
"""What a question of this world is made of, in the order of execution."""


def _steps() -> tuple[Step, ...]:
    return tuple(Step(o, k) for o in OPERATIONS for k in (o.parameters or (0,)))


_BY_PHRASE: Final = {(s.operation.family, s.phrase): s for s in _steps()}
_POOL: Final = {
    (family, rare): tuple(o for o in OPERATIONS if o.family == family and o.rare == rare)
    for family in FAMILIES
    for rare in (True, False)
}


def statement(steps: Composition) -> str:
    """The composition in words: `Given a list, rotate left, sort it.`."""
    return f"{_OPENERS[steps[0].operation.family]}, {', '.join(s.phrase for s in steps)}."


def program(steps: Composition, lines: Sequence[str] | None = None) -> str:
    """The composition in Python, one line an operation, each under a comment that says what it is meant to do.

    `lines` stand in for the steps' own lines: a program whose author means well and does not know better.
    """
    lines = lines or [s.line for s in steps]
    body = [f"{_COMMENT}{s.phrase}\n{line}" for s, line in zip(steps, lines, strict=True)]
    return "\n".join(["def f(x):", *body, "    return x"])


def annotated(steps: Composition) -> str:
    """The program as the teacher writes it: first the line, then a comment that says what it did."""
    return "\n".join(["def f(x):", *(f"{s.line}\n{_COMMENT}{s.phrase}" for s in steps), "    return x"])


def read_statement(text: str) -> Composition | None:
    """The composition that a statement of this world names; None for any other text."""
    for family, opener in _OPENERS.items():
        if text.startswith(f"{opener}, ") and text.endswith("."):
            phrases = text[len(opener) + 2 : -1].split(", ")
            steps = [_BY_PHRASE.get((family, phrase)) for phrase in phrases]
            return tuple(s for s in steps if s) if all(steps) else None
    return None


def truth(text: str) -> str | None:
    """The program that a statement really asks for; None when it is not a statement of this world.

    Comparing its behaviour with a teacher's own program measures alignment.
    """
    steps = read_statement(text)
    return program(steps) if steps else None


def motifs(text: str) -> frozenset[str]:
    """Names of the operations that a statement names; unknown phrases are left out."""
    family = family_of(text)
    phrases = text.strip().rstrip(".").split(", ")[1:]
    found = (_BY_PHRASE.get((family, phrase)) for phrase in phrases) if family else ()
    return frozenset(s.operation.name for s in found if s)


def grounded(statement: str, document: str) -> bool:
    """Whether a document, a program of this world with comments, names every operation that a statement of this world names."""
    steps = read_statement(statement)
    named = {line.removeprefix(_COMMENT) for line in document.split("\n") if line.startswith(_COMMENT)}
    return steps is not None and all(step.phrase in named for step in steps)


def opener(family: Family) -> str:
    """What statements of a family begin with, before the first comma."""
    return _OPENERS[family]


def family_of(text: str) -> Family | None:
    """The family that a statement opens with."""
    return next((f for f, o in _OPENERS.items() if text.startswith(o + ", ")), None)


def apply(steps: Iterable[Step], value: Any) -> Any:
    """What the composition makes of a value."""
    for step in steps:
        value = step.operation.apply(value, step.k)
    return value


def difficulty(steps: Composition) -> int:
    """Number of rare operations."""
    return sum(s.operation.rare for s in steps)


def structure(steps: Composition) -> str:
    """What makes two questions the same question: the sequence of operations, parameters left out."""
    return ">".join(s.operation.name for s in steps)


def split_of(steps: Composition) -> Split:
    """The split that owns this structure: a hash decides; structures of one or two operations are all for training."""
    if len(steps) < 3:
        return "train"
    byte = hashlib.sha256(structure(steps).encode()).digest()[0]
    # Of 256 values: a tenth each for validation and test, a fifth for goalposts, the rest for training.
    if byte < 26:
        return "validation"
    if byte < 52:
        return "test"
    return "goalposts" if byte < 104 else "train"


def draw_input(family: Family, rng: random.Random, size: Size = "usual") -> Any:
    """A random value of a family."""
    length = rng.randint(*_LENGTHS[family][size])
    if family == "lists":
        return [rng.randint(0, 9) for _ in range(length)]
    if family == "strings":
        return "".join(rng.choice(_LETTERS) for _ in range(length))
    if family == "numbers":
        return rng.randint(10 ** (length - 1), 10**length - 1)
    widths = (2, 3) if size != "large" else (3, 4)
    return [[rng.randint(0, 9) for _ in range(rng.randint(*widths))] for _ in range(length)]


def degenerate(steps: Composition, inputs: Sequence[Any], distinct: int) -> str | None:
    """Why a question over these inputs would be degenerate; None when it is sound.

    Sound means: at least `distinct` different outputs, none too long, and no operation without effect.
    """
    outputs = [repr(apply(steps, value)) for value in inputs]
    if len(set(outputs)) < distinct:
        return "collapsed outputs"
    if max(map(len, outputs)) > _LONGEST:
        return "long outputs"
    for i in range(len(steps)):
        rest = steps[:i] + steps[i + 1 :]
        if [repr(apply(rest, value)) for value in inputs] == outputs:
            return "operation without effect"
    return None


def draw(rng: random.Random, family: Family, rare: int, common: int, *, region: Region = "world") -> Composition:
    """A random composition: so many different rare and common operations, in random order."""
    pool = [o for o in _POOL[family, True] if region == "world" or o.target == (region == "target")]
    chosen = rng.sample(pool, rare) + rng.sample(_POOL[family, False], common)
    rng.shuffle(chosen)
    return tuple(Step(o, rng.choice(o.parameters or (0,))) for o in chosen)


def pairs(steps: Composition, inputs: Iterable[Any]) -> tuple[IOPair, ...]:
    """The composition's examples on these inputs."""
    return tuple(IOPair(input=repr(value), output=repr(apply(steps, value))) for value in inputs)


def question(steps: Composition, inputs: Sequence[Any], public: int = 2) -> Question:
    """The composition as a question, the first `public` pairs shown."""
    shown = pairs(steps, inputs)
    return Question(statement=statement(steps), program=program(steps), public=shown[:public], private=shown[public:])


def generate(
    split: Split,
    count: int,
    seed: int,
    *,
    rare: Sequence[int],
    families: Sequence[Family] = FAMILIES,
    region: Region = "world",
    tests: int = 10,
    known: Iterable[Question] = (),
) -> list[Question]:
    """`count` sound questions of a split, cycling through families and numbers of rare operations.

    Args:
        split: Owner of their structures.
        count: How many; no structure comes twice.
        seed: Same seed, same questions.
        rare: Numbers of rare operations to cycle through.
        families: Families to cycle through.
        region: Where rare operations are from.
        tests: Pairs a question has, two of them public.
        known: Questions whose structures must not come again.
    """
    rng = random.Random(f"{split}:{seed}:{region}")  # noqa: S311 - reproducible questions, not secrets
    found: list[Question] = []
    seen = {structure(steps) for q in known if (steps := read_statement(q.statement))}
    while len(found) < count:
        family = families[len(found) % len(families)]
        m = rare[len(found) // len(families) % len(rare)]
        steps = draw(rng, family, m, rng.randint(*_common(m)), region=region)
        key = structure(steps)
        if split_of(steps) != split or key in seen:
            continue
        inputs = [draw_input(family, rng) for _ in range(tests)]
        if len({repr(v) for v in inputs}) < tests or degenerate(steps, inputs, distinct=(tests * 6 + 9) // 10):
            continue
        seen.add(key)
        found.append(question(steps, inputs))
    return found


def _common(rare: int) -> tuple[int, int]:
    """Fewest and most common operations beside so many rare ones: lengths stay between 1 and 9."""
    return (max(1, 3 - rare) if rare < 2 else 0, 3 if rare < 4 else 2 if rare < 6 else 1)
