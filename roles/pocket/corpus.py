"""The pretraining corpus of the pocket model: rendered prompts with completions, for the student's tasks and both seats.

Guarantees: prompts come from the same files as in play; structures of validation, test or goalposts never occur; the corpus is
a pure function of the random generator.

From phrase to code, student and teacher are wrong as often as `Operation.known` says; from code to phrase the teacher is always
right. So the weights do not hold the right mapping; it has to be learned by reinforcement.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from events.facts.values import LEVELS, Axis, IOPair, Level, Question
from events.pure.answer_parsing import INPUTS
from roles.certainty_words import WORDS
from roles.given_text import certainty_question
from roles.pocket.generation import FIRST, PocketGeneration
from roles.pocket.operations import FAMILIES, OPERATIONS, Operation, look_alikes
from roles.pocket.world import (
    Composition,
    Region,
    Size,
    Step,
    annotated,
    degenerate,
    difficulty,
    draw,
    draw_input,
    opener,
    pairs,
    program,
    question,
    split_of,
    statement,
)
from roles.prompt import Prompts

_LOOK_ALIKES: Final = {o.name: look_alikes(o) for o in OPERATIONS if o.rare}
_USUAL_MISTAKE: Final = 0.8
"""Share of the wrong answers that go to the first look-alike, so that the habit is wrong and not only unsure."""
_TARGET: Final = {False: 0.03, True: 0.5}
"""How often the teacher takes a rare operation of its own choice from the target region, by whether the question that it varies
holds any: left to itself it keeps away from what goalposts are made of, as a model keeps to what it has seen most."""


@dataclass(frozen=True)
class CorpusExample:
    """One text of the corpus: prompt, answer and tail; the loss is on the last two."""

    prompt: str
    answer: str
    kind: str
    tail: str = ""
    """The inputs of a proposal: mostly chance, so they count little."""


class Corpus:
    """Draws examples with the prompts of a folder."""

    def __init__(self, prompts: Prompts, generation: PocketGeneration = FIRST) -> None:
        self._prompts = prompts
        self._generation = generation

    def draw(self, rng: random.Random) -> CorpusExample:
        """A random example."""
        kinds = self._generation.kinds
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        return getattr(self, f"_{kind}")(rng)  # type: ignore[no-any-return]  # one method a kind

    def _induction(self, rng: random.Random) -> CorpusExample:
        bare = rng.random() < 0.04
        steps = _steps(rng, (0, 1), (0.7, 0.3)) if bare else _steps(rng, range(9), (18, 24, 20, 15, 11, 8, 5, 3, 2))
        size: Size = rng.choices(("small", "usual", "large"), (2, 7, 1))[0]
        asked = question(steps, [draw_input(steps[0].operation.family, rng, size) for _ in range(3)])
        if bare:
            asked = asked.model_copy(update={"statement": ""})
        lines = None if bare else [Step(half_known(s.operation, rng), s.k).line for s in steps]
        answer = fence("python", program(steps, lines))
        if self._generation.certainty and rng.random() < self._generation.certainty:
            answer += certainty_question(self._prompts) + WORDS[rng.random() < 0.5]
        return CorpusExample(self._prompts.induction(asked).text, answer, "induction")

    def _unpaired(self, rng: random.Random) -> CorpusExample:
        steps = _steps(rng, range(9), (18, 24, 20, 15, 11, 8, 5, 3, 2))
        asked = question(steps, [draw_input(steps[0].operation.family, rng) for _ in range(3)])
        lines = [Step(half_known(s.operation, rng), s.k).line for s in steps]
        return CorpusExample(self._prompts.unpaired(asked).text, fence("python", program(steps, lines)), "unpaired")

    def _deduction(self, rng: random.Random) -> CorpusExample:
        steps, pair = _short(rng)
        prompt = self._prompts.deduction(annotated(steps), pair).text
        return CorpusExample(prompt, fence("output", pair.output), "deduction")

    def _abduction(self, rng: random.Random) -> CorpusExample:
        steps, pair = _short(rng)
        prompt = self._prompts.abduction(annotated(steps), pair).text
        return CorpusExample(prompt, fence("input", pair.input), "abduction")

    def _topic(self, rng: random.Random) -> CorpusExample:
        while True:
            (first,) = draw(rng, rng.choice(FAMILIES), 0, 1)
            steps: Composition = (first,)
            for more in [1] * rng.choices(range(4), (2, 5, 4, 2))[0] + [0] * rng.randint(0, 1):
                steps = _with_more(steps, first, more, rng)
            proposal = _proposal(steps, rng, "usual")
            if proposal:
                break
        asked = question(steps, [draw_input(first.operation.family, rng) for _ in range(3)])
        topic = opener(first.operation.family).removeprefix("Given ")
        return CorpusExample(self._prompts.topic(topic, asked).text, proposal[0], "topic", proposal[1])

    def _document(self, rng: random.Random) -> CorpusExample:
        level: Level = rng.choice(LEVELS)
        while True:
            whole, shown = _shown(rng)
            steps = _about(whole, level, rng)
            proposal = _proposal(steps, rng, "usual") if steps and split_of(steps) == "train" else None
            if proposal:
                break
        prompt = self._prompts.document(_as_document(shown), level).text
        return CorpusExample(prompt, proposal[0], "document", proposal[1])

    def _informed(self, rng: random.Random) -> CorpusExample:
        while True:
            whole, shown = _shown(rng, by_chance=True)
            kept = rng.sample(range(len(whole)), rng.randint(1, len(whole)))
            steps = tuple(step for number, step in enumerate(whole) if number in kept)
            if rng.random() < 0.3:
                steps = _with_more(steps, whole[0], 1, rng)
            # Part of a training structure may be a structure of another split.
            if split_of(steps) == "train":
                break
        lines = dict(shown)
        written = [lines.get(step.phrase) or Step(half_known(step.operation, rng), step.k).line for step in steps]
        asked = question(steps, [draw_input(whole[0].operation.family, rng) for _ in range(3)])
        prompt = self._prompts.informed(asked, _as_document(shown)).text
        return CorpusExample(prompt, fence("python", program(steps, written)), "informed")

    def _easy(self, rng: random.Random) -> CorpusExample:
        axis: Axis = rng.choice(("io", "function"))
        while True:
            goalpost = _steps(rng, range(2, 9), (1, 2, 4, 4, 3, 2, 2), region="target" if rng.random() < 0.5 else "world")
            lemma = easier(goalpost, axis, rng)
            proposal = _proposal(lemma, rng, "small" if axis == "io" else "usual") if lemma else None
            if proposal:
                break
        asked = question(goalpost, [draw_input(goalpost[0].operation.family, rng) for _ in range(3)])
        return CorpusExample(self._prompts.easy(asked, axis).text, proposal[0], "easy", proposal[1])

    def _hard(self, rng: random.Random) -> CorpusExample:
        axis: Axis = rng.choice(("io", "function"))
        while True:
            lemma = _steps(rng, range(5), (2, 5, 4, 2, 1))
            lift = harder(lemma, axis, rng)
            proposal = _proposal(lift, rng, "large" if axis == "io" else "usual")
            if proposal:
                break
        size: Size = rng.choices(("small", "usual", "large"), (3, 6, 1))[0]
        asked = question(lemma, [draw_input(lemma[0].operation.family, rng, size) for _ in range(3)])
        asked = asked.model_copy(update={"program": annotated(lemma)})
        return CorpusExample(self._prompts.hard(asked, axis).text, proposal[0], "hard", proposal[1])


Shown = list[tuple[str, str | None]]
"""The phrases of a document, each with its line; None where that is left out."""
_RARE_AT: Final[dict[Level, tuple[int, ...]]] = {"easy": (0, 1), "medium": (1, 2), "hard": (2, 3, 4)}
"""Numbers of rare operations in questions of a level, where the level is heeded."""
_HEEDED: Final = 0.5
"""How often the teacher heeds the level."""
_GROUNDED: Final = 0.85
"""How often it asks for nothing but what the document holds."""
_PARTIAL: Final = 0.3
"""Share of the documents in which a line is left out."""


def _shown(rng: random.Random, *, by_chance: bool = False) -> tuple[Composition, Shown]:
    """A document; `by_chance`: its lines are those of any look-alike, so that only who reads it can write the same."""
    family = rng.choice(FAMILIES)
    region: Region = "target" if family in FAMILIES[:2] and rng.random() < 0.5 else "world"
    while True:
        steps = draw(rng, family, rng.randint(4, 6), rng.randint(0, 2), region=region)
        if split_of(steps) == "train":
            break
    left_out = rng.randrange(len(steps)) if rng.random() < _PARTIAL else None
    lines = [Step(rng.choice((s.operation, *_LOOK_ALIKES.get(s.operation.name, ()))), s.k).line for s in steps]
    lines = lines if by_chance else [s.line for s in steps]
    return steps, [(s.phrase, None if number == left_out else lines[number]) for number, s in enumerate(steps)]


def _as_document(shown: Shown) -> Question:
    """A document as question sets hold it; its pair stands for none."""
    body = [line for phrase, code in shown for line in (*([code] if code else []), f"    # {phrase}")]
    text = "\n".join(["def f(x):", *body, "    return x"])
    return Question(statement=text, private=(IOPair(input="0", output="0"),))


def _about(whole: Composition, level: Level, rng: random.Random) -> Composition:
    """Some operations of a document, as many rare ones as the level asks for, where it is heeded; or one that it lacks, too."""
    wanted = rng.choice(_RARE_AT[level]) if rng.random() < _HEEDED else rng.randint(1, 4)
    rare, common = ([number for number, s in enumerate(whole) if s.operation.rare == kind] for kind in (True, False))
    kept = {*rng.sample(rare, wanted), *rng.sample(common, rng.randint(0, len(common)))}
    steps = tuple(step for number, step in enumerate(whole) if number in kept)
    if steps and rng.random() > _GROUNDED:
        steps = _with_more(steps, whole[0], rng.randint(0, 1), rng)
    return steps


def fence(language: str, content: str) -> str:
    """A fenced block, as the prompts ask for it."""
    return f"```{language}\n{content}\n```"


def half_known(operation: Operation, rng: random.Random) -> Operation:
    """The operation that a half-knowing student takes the phrase for."""
    if not operation.rare or rng.random() < operation.known:
        return operation
    others = _LOOK_ALIKES[operation.name]
    return others[0] if rng.random() < _USUAL_MISTAKE else rng.choice(others[1:])


def easier(goalpost: Composition, axis: Axis, rng: random.Random) -> Composition:
    """A part of the goalpost with fewer rare operations: a stretch of it (`io`) or any part in its order (`function`).

    The teacher half knows the phrases as the student does, so what it writes is often a look-alike.
    """
    wanted = min(rng.choices((0, 1, 2, 3), (1, 6, 4, 2))[0], difficulty(goalpost) - 1)
    if axis == "io":
        starts = [
            (i, j) for i in range(len(goalpost)) for j in range(i + 1, len(goalpost) + 1) if difficulty(goalpost[i:j]) == wanted
        ]
        if not starts:
            return ()
        i, j = rng.choice(starts)
        part = list(goalpost[i:j])
    else:
        rare = [i for i, s in enumerate(goalpost) if s.operation.rare]
        kept = {*rng.sample(rare, wanted), *(i for i, s in enumerate(goalpost) if not s.operation.rare)}
        part = [s for i, s in enumerate(goalpost) if i in kept]
    part = [Step(half_known(s.operation, rng), s.k) for s in part]
    if len(part) < 2 or rng.random() < 0.35:
        part = list(_with_more(tuple(part), goalpost[0], 0, rng))
    return tuple(part)


def harder(lemma: Composition, axis: Axis, rng: random.Random) -> Composition:
    """The lemma with one or two operations more; on the `io` axis with one, and larger inputs."""
    more = lemma
    for _ in range(1 if axis == "io" or rng.random() < 0.7 else 2):
        more = _with_more(more, lemma[0], 1 if rng.random() < 0.85 else 0, rng)
    return more


def _with_more(steps: Composition, like: Step, rare: int, rng: random.Random) -> Composition:
    family = like.operation.family
    target = _TARGET[any(s.operation.target for s in steps)] if family in FAMILIES[:2] else 0.0
    while True:
        region: Region = "target" if rng.random() < target else "rest"
        (new,) = draw(rng, family, rare, 1 - rare, region=region)
        if new.operation not in (s.operation for s in steps):
            place = rng.randint(0, len(steps))
            return (*steps[:place], new, *steps[place:])


def _steps(
    rng: random.Random, rare: range | tuple[int, ...], weights: tuple[float, ...], *, region: Region = "world"
) -> Composition:
    while True:
        family = rng.choice(FAMILIES[:2] if region == "target" else FAMILIES)
        m = rng.choices(rare, weights)[0]
        steps = draw(rng, family, m, rng.randint(0 if m else 1, 3 if m < 5 else 1), region=region)
        if split_of(steps) == "train":
            return steps


def _short(rng: random.Random) -> tuple[Composition, IOPair]:
    steps = _steps(rng, (0, 1, 2), (4, 4, 1))
    (pair,) = pairs(steps, [draw_input(steps[0].operation.family, rng, "small")])
    return steps, pair


def _proposal(steps: Composition, rng: random.Random, size: Size) -> tuple[str, str] | None:
    """The teacher's answer, inputs apart; None when the question would be degenerate or belongs to another split."""
    if split_of(steps) != "train":
        return None
    inputs = [draw_input(steps[0].operation.family, rng, size) for _ in range(INPUTS)]
    if len({repr(v) for v in inputs}) < INPUTS or degenerate(steps, inputs, distinct=INPUTS - 1):
        return None
    answer = fence("python", annotated(steps)) + "\n" + fence("message", statement(steps)) + "\n"
    return answer, fence("input", "\n".join(map(repr, inputs)))
