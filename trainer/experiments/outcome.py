"""The outcome of one run, finished or not: evaluations, calibrations, votes, trials, measures of its teacher, costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Final, NamedTuple

from events.facts.certainty_facts import CalibrationFinished
from events.facts.errors import BadInput
from events.facts.log import Log, read_facts
from events.facts.trial_facts import StudentPromoted, TrialExamined, TrialLearned
from events.facts.types import AttemptsMade, EvaluationFinished, RunStarted
from events.facts.values import QuestionId
from events.projections.run_summary import RunSummary, fold
from events.pure.estimators import pass_at_k
from trainer.experiments.documents import DocumentQuestion, document_questions
from trainer.experiments.teacher_measures import TeacherMeasures, teacher_measures
from trainer.experiments.votes import VotedQuestion, votes

QUESTION_SETS: Final = ("validation", "test", "goalposts")
"""Question sets that a run evaluates by itself."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the student."""

    result: EvaluationFinished
    samples: int
    """Completions of the student in play before it."""

    def scores(self, k: int) -> list[float]:
        """Estimated pass@k of each question, in the order of their ids."""
        return [pass_at_k(self.result.attempts, [count], k) for _, count in sorted(self.result.successes.items())]

    @property
    def solved(self) -> frozenset[QuestionId]:
        """Questions with a success."""
        return frozenset(question for question, count in self.result.successes.items() if count)


class Calibration(NamedTuple):
    """How well the student of one evaluation knew what it knows."""

    result: CalibrationFinished
    answers: tuple[tuple[float, bool], ...]
    """Of each answer, how certain the student was of it, in [0, 1], and whether it passed."""


@dataclass(frozen=True)
class RunCosts:
    """What a run cost."""

    seconds: float
    """Time of play and training, evaluations included."""
    iterations: int
    student_samples: int
    teacher_samples: int
    evaluated_samples: int
    """Completions in evaluations, those of trials included, which nothing learns from."""
    updates: int
    steps: int
    """Optimizer steps, those of trials included."""
    played_tokens: int
    """Completion tokens in play."""
    evaluated_tokens: int
    """Completion tokens in evaluations, those of trials included."""
    learned_tokens: int
    """Completion tokens in optimizer steps, those of trials included."""


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run, finished or not."""

    started: RunStarted
    finished: bool
    evaluations: Mapping[str, Sequence[Evaluation]]
    """By question set, in the order of iterations."""
    teaching: TeacherMeasures
    costs: RunCosts
    calibrations: tuple[Calibration, ...] = ()
    """In the order of the log."""
    votes: tuple[VotedQuestion, ...] = ()
    """In the order of the log."""
    documents: tuple[DocumentQuestion, ...] = ()
    """Questions about documents."""
    trials: tuple[TrialExamined, ...] = ()
    """In the order of the log."""
    promotions: tuple[StudentPromoted, ...] = ()
    """In the order of the log."""

    def with_shared_start(self, others: Iterable[RunOutcome]) -> RunOutcome:
        """The same, with another run's evaluations of the first weights where it has none and began with the same weights."""
        added = {name: [start for other in others for start in other._starts(name, self)][:1] for name in QUESTION_SETS}
        return replace(self, evaluations={name: [*added[name], *own] for name, own in self.evaluations.items()})

    def _starts(self, name: str, run: RunOutcome) -> list[Evaluation]:
        """Evaluations of the first weights that another run lacks."""
        own = self.at(name, 0)
        lacking = bool(run.evaluations[name]) and run.at(name, 0) is None
        return [own] if own is not None and lacking and own.result.policy == run.started.policies["student"] else []

    def at(self, name: str, iteration: int | None) -> Evaluation | None:
        """The evaluation on a set after an iteration, if there is one."""
        return next((each for each in self.evaluations[name] if each.result.iteration == iteration), None)

    def chosen(self, k: int) -> int | None:
        """The iteration with the best pass@k on validation, the earlier of equals, of those that were evaluated on test too."""
        tested = {each.result.iteration for each in self.evaluations["test"]}
        candidates = [each for each in self.evaluations["validation"] if each.result.iteration in tested]
        best = max(candidates, key=lambda each: (fmean(each.scores(k)), -each.result.iteration), default=None)
        return None if best is None else best.result.iteration

    @cached_property
    def last(self) -> int | None:
        """The last checkpoint that was evaluated on test."""
        return max((each.result.iteration for each in self.evaluations["test"]), default=None)

    def third(self, *, last: bool) -> range:
        """The first third of its iterations, or the last."""
        played = self.costs.iterations
        size = max(1, played // 3)
        return range(played - size + 1, played + 1) if last else range(1, size + 1)

    @cached_property
    def solved(self) -> frozenset[QuestionId]:
        """Goalposts solved in any evaluation."""
        return frozenset[QuestionId]().union(*(each.solved for each in self.evaluations["goalposts"]))

    @property
    def attempts(self) -> int:
        """Attempts at each goalpost in all evaluations together."""
        return sum(each.result.attempts for each in self.evaluations["goalposts"])


def run_outcome(log: Log) -> RunOutcome:
    """The outcome of the run of a log.

    Raises:
        BadInput: the log is empty.
        LogCorrupt: a question is missing or damaged.
    """
    summary = fold(RunSummary(), log.read())
    if summary.started is None:
        raise BadInput("The log holds no run, its first event is missing; give the folder of another experiment.")
    samples = summary.samples.after
    return RunOutcome(
        started=summary.started,
        finished=summary.finished,
        evaluations={
            name: sorted(
                (Evaluation(fact, samples.get(fact.iteration, 0)) for fact in summary.evaluations if fact.name == name),
                key=lambda each: each.result.iteration,
            )
            for name in QUESTION_SETS
        },
        teaching=teacher_measures(log),
        costs=_costs(log, summary),
        calibrations=tuple(_calibration(log, fact) for fact in summary.calibrations),
        votes=tuple(votes(log)),
        documents=tuple(document_questions(log)),
        trials=tuple(summary.trials),
        promotions=tuple(summary.promotions),
    )


def _calibration(log: Log, fact: CalibrationFinished) -> Calibration:
    scores = json.loads(log.get(fact.scores))
    return Calibration(fact, tuple((float(certainty), bool(passed)) for _, passed, _, certainty in scores))


def _costs(log: Log, summary: RunSummary) -> RunCosts:
    figures, updates = summary.iterations.values(), summary.updates
    played = sum(iteration.tokens for iteration in figures)
    trials = list(read_facts(log, TrialLearned))
    # An update that promotes a student repeats the steps of its trial.
    own = [update for update in updates if not (trials and update.set)]
    steps = [step for update in own for step in update.steps] + [step for trial in trials for step in trial.steps]
    return RunCosts(
        seconds=summary.played,
        iterations=sum(iteration.ended is not None for iteration in figures),
        student_samples=summary.samples.total,
        teacher_samples=sum(seat.proposed for iteration in figures for seat in iteration.seats.values()),
        evaluated_samples=sum(fact.generation.count for fact in read_facts(log, AttemptsMade) if fact.purpose == "evaluation"),
        updates=len(updates),
        steps=sum(bool(step.samples) for step in steps),
        played_tokens=played,
        evaluated_tokens=summary.tokens - played,
        learned_tokens=sum(step.tokens for step in steps),
    )
