"""Generations of the pocket weights: what each was pretrained on, and where it ships.

All generations share one world (`operations`, `world`) and one way of pretraining (`corpus`, `pretrain`); a
`PocketGeneration` says what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from events.facts.errors import BadInput
from roles.questions.pocket_folders import POCKET_FOLDERS


@dataclass(frozen=True)
class PocketGeneration:
    """One pretraining of the pocket model. Its name is that of its weights, its prompt set and its questions in settings."""

    name: str
    kinds: Mapping[str, float]
    """Share of each kind of example, see `corpus.Corpus`."""
    steps: int
    """Optimizer steps of the pretraining."""
    rate: float
    """Peak learning rate."""
    goalposts: tuple[int, ...]
    """Numbers of rare operations of candidates for goalposts, in turn."""
    start: PocketGeneration | None = None
    """Whose weights the pretraining begins with; None: random ones."""
    batch: int = 32
    """Examples of a step."""
    certainty: float = 0.0
    """Share of induction answers that say whether they are certain, by chance and so about half of the time."""
    pieces: str = ""
    """What the tokenizer keeps together besides its usual pieces: alternatives of a regular expression, each ended by `|`."""

    @property
    def weights(self) -> Path:
        """The weights folder that ships with the project."""
        return POCKET_FOLDERS[self.name] / "weights"

    @property
    def questions(self) -> Path:
        """The folder of question files that ships with the project."""
        return POCKET_FOLDERS[self.name] / "questions"


FIRST: Final = PocketGeneration(
    name="pocket",
    kinds={"induction": 0.50, "easy": 0.24, "hard": 0.18, "deduction": 0.05, "abduction": 0.03},
    steps=2600,
    rate=3e-3,
    goalposts=(8,),
)
SECOND: Final = PocketGeneration(
    name="pocket2",
    kinds={
        "induction": 0.34,
        "unpaired": 0.11,
        "easy": 0.21,
        "hard": 0.17,
        "topic": 0.13,
        "deduction": 0.03,
        "abduction": 0.01,
    },
    steps=350,
    rate=1e-3,
    goalposts=(3, 3, 4, 3, 5, 3, 6),
    start=FIRST,
    certainty=0.06,
    pieces=r"# Are you sure\?| I am (?:un)?sure\.|",
)
THIRD: Final = PocketGeneration(
    name="pocket3",
    kinds={
        "induction": 0.14,
        "unpaired": 0.11,
        "easy": 0.04,
        "hard": 0.04,
        "topic": 0.03,
        "document": 0.27,
        "informed": 0.35,
        "deduction": 0.01,
        "abduction": 0.01,
    },
    steps=900,
    batch=16,
    rate=1e-3,
    goalposts=SECOND.goalposts,
    start=SECOND,
    certainty=0.06,
    pieces=SECOND.pieces,
)
GENERATIONS: Final[Mapping[str, PocketGeneration]] = {generation.name: generation for generation in (FIRST, SECOND, THIRD)}
"""By name."""


def named_generation(name: str) -> PocketGeneration:
    """The generation of this name; BadInput where there is none."""
    if name not in GENERATIONS:
        raise BadInput(f"There is no generation {name!r} of the pocket weights; take one of {', '.join(GENERATIONS)}.")
    return GENERATIONS[name]
