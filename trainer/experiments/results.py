"""What many runs say together: scores with confidence intervals, differences, goalposts solved, by recipe over its seeds.

Law: pure functions of the outcomes. What is missing is None and named as missing, and never filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Final, Literal, NamedTuple

from events.facts.errors import BadInput
from events.facts.values import QuestionId
from events.pure.estimators import paired_difference_interval, seed_mean_interval, wilson_interval
from trainer.experiments.outcome import QUESTION_SETS, Evaluation, RunOutcome

MAX_K: Final = 20
"""pass@k is reported for 1 and for this k, or the most that the answers to a question allow."""
WhichCheckpoint = Literal["chosen", "last"]
"""Which checkpoint: the best on validation, or the last."""
Scores = list[list[float]]
"""A row a seed, a column a question."""
OutcomesByRecipe = Mapping[str, Mapping[int, RunOutcome | None]]
"""Outcomes by recipe and seed, None of runs that have not begun."""


class Estimate(NamedTuple):
    """A number and where it is likely to be."""

    value: float
    low: float
    high: float


class CurvePoint(NamedTuple):
    """A point of a learning curve: means over seeds, and the least and the most of them."""

    samples: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """All outcomes of an experiment."""

    cells: OutcomesByRecipe

    def __post_init__(self) -> None:
        """Refuse what cannot be compared.

        Raises:
            BadInput: two runs were examined on different questions.
        """
        _ = self.questions

    def outcomes(self, recipe: str) -> dict[int, RunOutcome]:
        """Runs of a recipe that have begun, by seed."""
        return {seed: found for seed, found in self.cells.get(recipe, {}).items() if found is not None}

    def complete(self, *recipes: str) -> bool:
        """Whether all runs of these recipes are over."""
        return all(
            bool(self.cells.get(recipe)) and all(found is not None and found.finished for found in self.cells[recipe].values())
            for recipe in recipes
        )

    @cached_property
    def k(self) -> int:
        """The k of pass@k beside 1."""
        attempts = [one.found.attempts for name in ("validation", "test") for one in self._all(name)]
        return min([MAX_K, *attempts])

    @cached_property
    def questions(self) -> Mapping[str, Sequence[QuestionId]]:
        """Ids of each set that was examined, in order."""
        found: dict[str, Sequence[QuestionId]] = {}
        for name in QUESTION_SETS:
            for one in self._all(name):
                if found.setdefault(name, sorted(one.found.successes)) != sorted(one.found.successes):
                    raise BadInput(f"Two runs were examined on different {name} questions; play the older ones again.")
        return found

    def _all(self, name: str) -> list[Evaluation]:
        return [one for recipe in self.cells for found in self.outcomes(recipe).values() for one in found.examinations[name]]

    def checkpoint(self, found: RunOutcome, when: WhichCheckpoint) -> int | None:
        """Iterations that a run had learned from then."""
        return found.last if when == "last" else found.chosen(self.k)

    def scores(self, recipe: str, when: WhichCheckpoint, k: int, only: Sequence[int] | None = None) -> Scores:
        """Test scores of a recipe; of those questions only, by their places."""
        tested = [found.at("test", self.checkpoint(found, when)) for found in self.outcomes(recipe).values()]
        rows = [one.scores(k) for one in tested if one is not None]
        return rows if only is None else [[row[place] for place in only] for row in rows]

    def score(self, recipe: str, when: WhichCheckpoint, k: int, only: Sequence[int] | None = None) -> Estimate | None:
        """Test pass@k of a recipe."""
        rows = self.scores(recipe, when, k, only)
        return Estimate(_mean(rows), *seed_mean_interval(rows)) if rows and rows[0] else None

    def difference(self, recipe: str, other: str, when: WhichCheckpoint, k: int) -> Estimate | None:
        """Test pass@k of a recipe minus that of another one."""
        ours, theirs = self.scores(recipe, when, k), self.scores(other, when, k)
        if recipe == other or not ours or not theirs:
            return None
        return Estimate(_mean(ours) - _mean(theirs), *paired_difference_interval(ours, theirs))

    def solved(self, recipe: str, when: Literal["last", "any"]) -> dict[int, frozenset[QuestionId]]:
        """Goalposts that each seed solved, in its last examination on them or in any."""
        return {
            seed: found.solved if when == "any" else found.examinations["goalposts"][-1].solved
            for seed, found in self.outcomes(recipe).items()
            if found.examinations["goalposts"]
        }

    def union(self, recipe: str, when: Literal["last", "any"]) -> frozenset[QuestionId]:
        """Goalposts that some seed solved."""
        return frozenset[QuestionId]().union(*self.solved(recipe, when).values())

    def union_share(self, recipe: str, when: Literal["last", "any"]) -> Estimate | None:
        """The same as a share of all goalposts."""
        if not self.solved(recipe, when):
            return None
        count = len(self.questions["goalposts"])
        share = len(self.union(recipe, when)) / count
        return Estimate(share, *wilson_interval(share, count))

    def tries(self, recipe: str) -> int:
        """Answers to each goalpost in all examinations of all seeds together."""
        return sum(found.tries for found in self.outcomes(recipe).values())

    def curve(self, recipe: str, name: str, value: Callable[[Evaluation], float]) -> list[CurvePoint]:
        """A learning curve over the student's samples: the n-th examinations of all seeds make the n-th point."""
        runs = [found.examinations[name] for found in self.outcomes(recipe).values() if found.examinations[name]]
        points = []
        for together in zip(*runs, strict=False):
            values = [value(one) for one in together]
            points.append(CurvePoint(fmean(one.samples for one in together), fmean(values), min(values), max(values)))
        return points


def _mean(rows: Scores) -> float:
    return fmean(score for row in rows for score in row)
