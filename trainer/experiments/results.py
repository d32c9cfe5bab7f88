"""Results of an experiment: scores with confidence intervals, differences and solved goalposts, by recipe over its seeds.

What is missing is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
"""Scores in [0, 1]: a row for each seed, a column for each question."""
OutcomesByRecipe = Mapping[str, Mapping[int, RunOutcome | None]]
"""Outcomes by recipe and seed; None for runs that have not begun."""


class Estimate(NamedTuple):
    """A number with its confidence interval, whose bounds are nan where there is none."""

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
    set_names: Mapping[str, str] = field(default_factory=dict)
    """What a report calls question sets, where that differs from their names."""

    def __post_init__(self) -> None:
        """Refuse runs that cannot be compared.

        Raises:
            BadInput: two runs were evaluated on different questions.
        """
        _ = self.questions

    def set_name(self, name: str) -> str:
        """What a report calls a question set."""
        return self.set_names.get(name, name)

    @property
    def runs(self) -> list[RunOutcome]:
        """All runs that have begun."""
        return [outcome for recipe in self.cells for outcome in self.outcomes(recipe).values()]

    def outcomes(self, recipe: str) -> dict[int, RunOutcome]:
        """Runs of a recipe that have begun, by seed."""
        return {seed: outcome for seed, outcome in self.cells.get(recipe, {}).items() if outcome is not None}

    def complete(self, *recipes: str) -> bool:
        """Whether all runs of these recipes are over."""
        return all(
            bool(self.cells.get(recipe))
            and all(outcome is not None and outcome.finished for outcome in self.cells[recipe].values())
            for recipe in recipes
        )

    @cached_property
    def k(self) -> int:
        """The k of pass@k beside 1."""
        attempts = [each.result.attempts for name in ("validation", "test") for each in self._all(name)]
        return min([MAX_K, *attempts])

    @cached_property
    def questions(self) -> Mapping[str, Sequence[QuestionId]]:
        """Ids of each set that was evaluated, in order; BadInput if two runs were evaluated on different ones."""
        questions: dict[str, Sequence[QuestionId]] = {}
        for name in QUESTION_SETS:
            for each in self._all(name):
                if questions.setdefault(name, sorted(each.result.successes)) != sorted(each.result.successes):
                    raise BadInput(f"Two runs were evaluated on different {name} questions; play the older ones again.")
        return questions

    def _all(self, name: str) -> list[Evaluation]:
        return [evaluation for run in self.runs for evaluation in run.evaluations[name]]

    def checkpoint(self, outcome: RunOutcome, when: WhichCheckpoint) -> int | None:
        """The iteration of a run's last or chosen checkpoint."""
        return outcome.last if when == "last" else outcome.chosen(self.k)

    def scores(self, recipe: str, when: WhichCheckpoint, k: int, only: Sequence[int] | None = None) -> Scores:
        """Test pass@k of a recipe; `only` selects questions by index."""
        evaluations = [outcome.at("test", self.checkpoint(outcome, when)) for outcome in self.outcomes(recipe).values()]
        rows = [evaluation.scores(k) for evaluation in evaluations if evaluation is not None]
        return rows if only is None else [[row[index] for index in only] for row in rows]

    def score(self, recipe: str, when: WhichCheckpoint, k: int, only: Sequence[int] | None = None) -> Estimate | None:
        """Mean test pass@k of a recipe."""
        rows = self.scores(recipe, when, k, only)
        return Estimate(_mean(rows), *seed_mean_interval(rows)) if rows and rows[0] else None

    def difference(self, recipe: str, other: str, when: WhichCheckpoint, k: int) -> Estimate | None:
        """Test pass@k of a recipe minus that of another one."""
        ours, theirs = self.scores(recipe, when, k), self.scores(other, when, k)
        if recipe == other or not ours or not theirs:
            return None
        return Estimate(_mean(ours) - _mean(theirs), *paired_difference_interval(ours, theirs))

    def solved(self, recipe: str, when: Literal["last", "any"]) -> dict[int, frozenset[QuestionId]]:
        """Goalposts that each seed solved, in its last evaluation on them or in any."""
        return {
            seed: outcome.solved if when == "any" else outcome.evaluations["goalposts"][-1].solved
            for seed, outcome in self.outcomes(recipe).items()
            if outcome.evaluations["goalposts"]
        }

    def union(self, recipe: str, when: Literal["last", "any"]) -> frozenset[QuestionId]:
        """Goalposts that some seed solved."""
        return frozenset[QuestionId]().union(*self.solved(recipe, when).values())

    def union_share(self, recipe: str, when: Literal["last", "any"]) -> Estimate | None:
        """Their share of all goalposts, in [0, 1]."""
        if not self.solved(recipe, when):
            return None
        count = len(self.questions["goalposts"])
        share = len(self.union(recipe, when)) / count
        return Estimate(share, *wilson_interval(share, count))

    def attempts(self, recipe: str) -> int:
        """Attempts at each goalpost in all evaluations of all seeds together."""
        return sum(outcome.attempts for outcome in self.outcomes(recipe).values())

    def curve(self, recipe: str, name: str, value: Callable[[Evaluation], float]) -> list[CurvePoint]:
        """A learning curve over the student's samples: the n-th evaluations of all seeds make the n-th point."""
        runs = [outcome.evaluations[name] for outcome in self.outcomes(recipe).values() if outcome.evaluations[name]]
        points = []
        for together in zip(*runs, strict=False):
            values = [value(evaluation) for evaluation in together]
            samples = fmean(evaluation.samples for evaluation in together)
            points.append(CurvePoint(samples, fmean(values), min(values), max(values)))
        return points


def _mean(rows: Scores) -> float:
    return fmean(score for row in rows for score in row)
