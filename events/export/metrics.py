"""Metrics of a run, folded from its events, and the only place where metrics are named.

A metric that TRL's GRPOTrainer logs has TRL's name, behind its owner: `student/reward` and `teacher/reward` belong to a role
while playing, `shared/loss` (`teacher/loss` and `student/loss` where policies are separate) to an update of that policy. Other
names are ours: `gap`, `teacher/easy/accepted`, `eval/test/pass_at_1`, `seconds/sampling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple, get_args

from events.facts.certainty_facts import CalibrationFinished
from events.facts.errors import BadInput
from events.facts.log import Event, Log, find_run_started
from events.facts.trial_facts import StudentPromoted, TrialExamined
from events.facts.types import (
    EpisodeFinished,
    EvaluationFinished,
    IterationFinished,
    IterationStarted,
    PolicyServed,
    PolicyUpdated,
    Reason,
    RewardGiven,
)
from events.facts.values import OptimizerStep, Role
from events.projections.figures import IterationFigures, RunningMean
from events.projections.run_summary import RunSummary, staleness
from events.reports.training_warnings import WARNING_NAMES, diagnose
from events.text.secrets import MASK, is_secret, mask

ENDINGS: Final[tuple[str, ...]] = get_args(EpisodeFinished.model_fields["reason"].annotation)
"""Reasons for the end of guided episodes."""


class MetricPoint(NamedTuple):
    """Metrics that became known with one event."""

    step: int
    """Iteration; 0 is the start."""
    time: datetime
    values: dict[str, float]
    """Values by metric."""


class RunCurves(NamedTuple):
    """Settings and metrics of a run, up to one position."""

    started: datetime
    """Time of the first event."""
    settings: dict[str, bool | float | str]
    """Settings by dotted name, and the identity of the log: `log.position`, `log.head`."""
    points: Iterator[MetricPoint]


def run_curves(log: Log) -> RunCurves:
    """The curves of a log, which a run may be writing; BadInput if it is empty."""
    position, head = log.head()
    first = next(log.read(limit=1), None)
    if first is None:
        raise BadInput("The log is empty, so there is nothing to export; play first.")
    settings: dict[str, bool | float | str] = {"log.position": position, "log.head": head}
    if (started := find_run_started(log)) is not None:
        shown = started.model_dump(mode="json", include={"config", "versions", "commit", "policies"})
        settings.update(_flat({**shown.pop("config"), **shown}))
    return RunCurves(first.time, settings, metric_points(takewhile(lambda event: event.position <= position, log.read())))


def metric_points(events: Iterable[Event]) -> Iterator[MetricPoint]:
    """A point for each iteration, update of a policy, weight-sync check and evaluation."""
    summary, rewards = RunSummary(), _Rewards()
    for event in events:
        summary.apply(event)
        match event.fact:
            case IterationStarted():
                rewards = _Rewards()
            case RewardGiven() as fact:
                rewards.add(fact)
            case IterationFinished(iteration=number):
                figures = iteration_metrics(summary.iterations[number])
                yield _point(number, event, figures | {"num_completion_tokens": summary.tokens} | rewards.values())
            case PolicyUpdated() as fact:
                values = update_metrics(fact) | {"staleness": staleness(summary, fact), "tokens_per_second": summary.speeds[-1]}
                warned = {warning.name for warning in diagnose(summary) if warning.policy == fact.policy}
                values |= {f"warnings/{name}": name in warned for name in WARNING_NAMES}
                yield _point(fact.iteration, event, {f"{fact.policy}/{name}": value for name, value in values.items()})
            case PolicyServed(role=role, difference=float()) as fact:
                iteration = next((update.iteration for update in reversed(summary.updates) if update.digest == fact.policy), 0)
                differences = {"difference": fact.difference, "mean_difference": fact.mean_difference}
                yield _point(iteration, event, {f"served/{role}/{name}": value for name, value in differences.items()})
            case TrialExamined(iteration=number) as fact:
                yield _point(number, event, {f"trials/set_{fact.set}/student_{fact.student}/gain": fact.gain})
            case StudentPromoted(iteration=number, gain=gain):
                yield _point(number, event, {"trials/promoted": 1.0, "trials/promoted_gain": gain})
            case EvaluationFinished() as fact:
                yield _point(fact.iteration, event, _evaluated(fact))
            case CalibrationFinished() as fact:
                names = ("accuracy", "answer_rate", "accuracy_answered", "ap_confidence", "ap_certainty", "ece")
                yield _point(fact.iteration, event, {f"eval/{fact.name}/{name}": getattr(fact, name) for name in names})


def _point(step: int, event: Event, values: Mapping[str, float | None]) -> MetricPoint:
    return MetricPoint(step, event.time, {name: float(value) for name, value in values.items() if value is not None})


@dataclass
class _Rewards:
    """The rewards of one iteration, by role."""

    groups: dict[Role, dict[str, list[tuple[float, ...]]]] = field(default_factory=lambda: {"teacher": {}, "student": {}})
    """Rewards by the teacher's seat or the student's task."""

    def add(self, fact: RewardGiven) -> None:
        self.groups[fact.role].setdefault(fact.task, []).append(fact.rewards)

    def values(self) -> dict[str, float | None]:
        metrics: dict[str, float | None] = {}
        for role, tasks in self.groups.items():
            for task, groups in tasks.items():
                metrics |= _spread(f"{role}/rewards/{task}/mean", f"{role}/rewards/{task}/std", groups)
            groups = [group for groups in tasks.values() for group in groups]
            metrics |= _spread(f"{role}/reward", f"{role}/reward_std", groups)
            # A group of one completion has no spread by definition, so it does not count.
            flat = [len(set(group)) == 1 for group in groups if len(group) > 1]
            metrics[f"{role}/frac_reward_zero_std"] = fmean(flat) if flat else None
        return metrics


def _spread(mean: str, deviation: str, groups: Iterable[tuple[float, ...]]) -> dict[str, float | None]:
    rewards = [reward for group in groups for reward in group]
    return {mean: fmean(rewards) if rewards else None, deviation: stdev(rewards) if len(rewards) > 1 else None}


def iteration_metrics(figures: IterationFigures) -> dict[str, float | None]:
    """Metrics of an iteration, except those of its rewards."""
    values = {"gap": figures.gap.value, "best_share": figures.best_share.value, "practice/pass_rate": figures.practice.value}
    if figures.gap.count:
        values |= {"goalposts/with_lemma": figures.with_lemma, "goalposts/with_lift": figures.with_lift}
    values |= {f"seconds/{phase}": seconds for phase, seconds in figures.seconds.items()}
    if figures.texts:
        values |= {"texts/given": figures.texts, "texts/certain": figures.certain.value}
    values |= {f"{role}/completions/mean_length": length.value for role, length in figures.lengths.items()}
    values |= {"episodes/finished": figures.finished, "episodes/failed": figures.failed}
    values |= {f"episodes/{reason}": figures.endings[reason] for reason in ENDINGS}
    for name, seat in figures.seats.items():
        metrics = {"pass_rate": seat.pass_rate.value, "aligned": seat.aligned.value, "diversity": seat.diversity}
        metrics |= {f"label/{figure}": value for figure, value in seat.votes.values().items()}
        if seat.proposed:
            metrics["accepted"] = seat.accepted / seat.proposed
            metrics |= {f"rejected/{reason}": seat.rejected[reason] / seat.proposed for reason in get_args(Reason)}
        values |= {f"teacher/{name}/{figure}": value for figure, value in metrics.items()}
    for level, at_level in figures.levels.items():
        values |= {f"documents/{level}/{figure}": value for figure, value in at_level.values().items()}
    return values


def update_metrics(fact: PolicyUpdated) -> dict[str, float | None]:
    """Metrics of an update, without the name of the policy."""
    groups = sum(step.groups for step in fact.steps)
    names = {name: None for step in fact.steps for name in step.metrics}
    return {
        **{name: _token_mean(fact.steps, name) for name in names},
        "global_step": fact.step,
        "samples": sum(step.samples for step in fact.steps),
        "tokens": sum(step.tokens for step in fact.steps),
        "frac_silent_groups": sum(step.silent_groups for step in fact.steps) / groups if groups else None,
    }


def _token_mean(steps: Iterable[OptimizerStep], name: str) -> float | None:
    mean = RunningMean()
    for step in steps:
        if name in step.metrics:
            mean.add(step.metrics[name] * step.tokens, step.tokens)
    return mean.value


def _evaluated(fact: EvaluationFinished) -> dict[str, float | None]:
    solved = [count > 0 for count in fact.successes.values()]
    shares = {f"pass_at_{k}": share for k, share in fact.pass_at.items()} | {"solved": fmean(solved) if solved else None}
    return {f"eval/{fact.name}/{name}": share for name, share in shares.items()}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, bool | float | str]]:
    inner = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else None
    if inner is not None:
        for key, part in inner:
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif is_secret(name):
        yield name, MASK
    else:
        yield name, value if isinstance(value, bool | int | float) else mask(str(value))
