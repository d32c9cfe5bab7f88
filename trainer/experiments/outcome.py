"""What came out of one run: its examinations, its teacher, and what it cost.

Law: a pure fold of a log, which may be of a run that goes on. It compares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Final

from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.types import EvaluationFinished, RunStarted
from events.facts.values import QuestionId
from events.projections.run_summary import RunSummary, fold
from events.pure.estimators import pass_at_k
from trainer.experiments.teaching import TeacherMeasures, teaching

QUESTION_SETS: Final = ("validation", "test", "goalposts")
"""Question sets whose examinations count, as the run itself examines them."""


@dataclass(frozen=True)
class Evaluation:
    """One examination of the student."""

    found: EvaluationFinished
    samples: int
    """Completions of the student in play until then."""

    def scores(self, k: int) -> list[float]:
        """Estimated pass@k of each question, in the order of their ids."""
        return [pass_at_k(self.found.attempts, [count], k) for _, count in sorted(self.found.successes.items())]

    @property
    def solved(self) -> frozenset[QuestionId]:
        """Questions with a success."""
        return frozenset(question for question, count in self.found.successes.items() if count)


@dataclass(frozen=True)
class RunCosts:
    """What a run cost."""

    seconds: float
    """While it was played and learned, examinations included."""
    iterations: int
    """Played to their end."""
    student_samples: int
    """Completions in play."""
    teacher_samples: int
    """The same."""
    examined_samples: int
    """Completions in examinations, which nothing learns from."""
    updates: int
    """Of all policies."""
    steps: int
    """Of their optimizers."""
    played_tokens: int
    """Completion tokens in play."""
    examined_tokens: int
    """Completion tokens in examinations."""
    learned_tokens: int
    """Completion tokens in optimizer steps."""


@dataclass(frozen=True)
class RunOutcome:
    """What came out of a run."""

    started: RunStarted
    finished: bool
    examinations: Mapping[str, Sequence[Evaluation]]
    """By question set, in the order of iterations."""
    teaching: TeacherMeasures
    costs: RunCosts

    def with_shared_start(self, others: Iterable[RunOutcome]) -> RunOutcome:
        """The same, with another run's examinations of the first weights where it has none of its own and began with them."""
        added = {name: [one for other in others for one in other._starts(name, self)][:1] for name in QUESTION_SETS}
        return replace(self, examinations={name: [*added[name], *own] for name, own in self.examinations.items()})

    def _starts(self, name: str, run: RunOutcome) -> list[Evaluation]:
        """Examinations of the first weights that another run lacks."""
        own = self.at(name, 0)
        lacking = bool(run.examinations[name]) and run.at(name, 0) is None
        return [own] if own is not None and lacking and own.found.policy == run.started.policies["student"] else []

    def at(self, name: str, iteration: int | None) -> Evaluation | None:
        """The examination on a set after so many iterations."""
        return next((one for one in self.examinations[name] if one.found.iteration == iteration), None)

    def chosen(self, k: int) -> int | None:
        """The checkpoint with the best pass@k on validation, the earlier of equals, of those that were examined on test too."""
        tested = {one.found.iteration for one in self.examinations["test"]}
        known = [one for one in self.examinations["validation"] if one.found.iteration in tested]
        return max(known, key=lambda one: (fmean(one.scores(k)), -one.found.iteration)).found.iteration if known else None

    @cached_property
    def last(self) -> int | None:
        """The last checkpoint that was examined on test."""
        return max((one.found.iteration for one in self.examinations["test"]), default=None)

    def third(self, *, last: bool) -> range:
        """The first third of its iterations, or the last."""
        played = self.costs.iterations
        size = max(1, played // 3)
        return range(played - size + 1, played + 1) if last else range(1, size + 1)

    @cached_property
    def solved(self) -> frozenset[QuestionId]:
        """Goalposts solved in any examination."""
        return frozenset[QuestionId]().union(*(one.solved for one in self.examinations["goalposts"]))

    @property
    def tries(self) -> int:
        """Answers to each goalpost in all examinations together."""
        return sum(one.found.attempts for one in self.examinations["goalposts"])


def run_outcome(log: Log) -> RunOutcome:
    """What came out of the run of a log.

    Raises:
        BadInput: the log is empty.
        LogCorrupt: a question is missing or damaged.
    """
    summary = fold(RunSummary(), log.read())
    if summary.started is None:
        raise BadInput("the log is of no run, its first event is missing; give the folder of another experiment")
    samples = summary.samples.after
    return RunOutcome(
        started=summary.started,
        finished=summary.finished,
        examinations={
            name: sorted(
                (Evaluation(found, samples.get(found.iteration, 0)) for found in summary.evaluations if found.name == name),
                key=lambda one: one.found.iteration,
            )
            for name in QUESTION_SETS
        },
        teaching=teaching(log),
        costs=_costs(summary),
    )


def _costs(summary: RunSummary) -> RunCosts:
    figures, updates = summary.iterations.values(), summary.updates
    played = sum(iteration.tokens for iteration in figures)
    return RunCosts(
        seconds=summary.played,
        iterations=sum(iteration.ended is not None for iteration in figures),
        student_samples=summary.samples.total,
        teacher_samples=sum(seat.proposed for iteration in figures for seat in iteration.seats.values()),
        examined_samples=sum(found.attempts * len(found.successes) for found in summary.evaluations),
        updates=len(updates),
        steps=sum(bool(step.samples) for update in updates for step in update.steps),
        played_tokens=played,
        examined_tokens=summary.tokens - played,
        learned_tokens=sum(step.tokens for update in updates for step in update.steps),
    )
