"""Diagnosis: warnings about how a run learns, each with its evidence, a likely cause and what to try.

Law: a pure function of the summary, hence of the log: live, at the end and years later it says the same. It is silent where
there is little to go by, and warns of what has lasted for some updates. It stops nothing.

Thresholds are ours, and the default pocket run of 40 iterations stays well away from them: entropy never fell below 26 % of
the first, at most 73 % of a phase's groups were silent, completions grew by at most 31 %, and logprobs of the weights that
sampled differed by less than a millionth of a nat. What they warn of is the papers'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from events.facts.types import PolicyUpdated
from events.facts.values import OptimizerStep, Phase
from events.projections.run_summary import RunningMean, RunSummary, staleness

WINDOW: Final = 3
"""Updates of a policy that are looked at, and as many of its first to compare with."""
MIN_ENTROPY_SHARE: Final = 0.1
"""Share of the first entropy below which it has collapsed; from there on nothing new is tried (arXiv 2505.22617)."""
MAX_ZERO_ADVANTAGE: Final = 0.9
"""Share of groups without signal above which a phase teaches nothing (DAPO's reason to sample anew, arXiv 2503.14476)."""
MIN_GROUPS: Final = 16
"""Fewest groups of which a share is taken."""
MAX_LENGTH_GROWTH: Final = 2.0
"""Growth of completions, without growth of the reward, that is a bias of the loss or a missing end (arXiv 2503.20783)."""
MAX_MISMATCH: Final = 0.02
"""Mean distance, in nats, between the logprobs of sampler and trainer for the same weights; the trainer stops at 0.1."""
MAX_CLIPPED: Final = 0.3
"""Share of clipped tokens above which most of a step is thrown away; PPO's is usually 0.1 to 0.2 (arXiv 1707.06347)."""
MIN_EFFECTIVE: Final = 0.5
"""Effective sample size over tokens below which old samples no longer stand for the policy."""
LOGPROB_METRIC: Final = "sampling/sampling_logp_difference/mean"
"""Metric: mean distance between the logprobs of the sampler and those of the trainer, as TRL names it."""


Key = tuple[str, str, Phase]
"""What makes two symptoms the same one, later."""


class TrainingWarning(NamedTuple):
    """Something that is probably wrong."""

    name: str
    policy: str
    iteration: int
    phase: Phase
    evidence: str
    cause: str
    advice: str

    @property
    def key(self) -> Key:
        """Which symptom it is, for as long as it lasts."""
        return self.name, self.policy, self.phase

    def __str__(self) -> str:
        """One line for people."""
        where = f"{self.policy}, {self.phase} of iteration {self.iteration}"
        return f"{self.name.replace('_', ' ')} ({where}): {self.evidence}; probably {self.cause}; {self.advice}"


WARNING_NAMES: Final = ("entropy_collapse", "all_wrong", "all_right", "length_explosion", "off_policy", "logprob_mismatch")
"""Every warning there is."""


def diagnose(summary: RunSummary) -> list[TrainingWarning]:
    """What is wrong now, by the latest updates of each policy."""
    found: list[TrainingWarning] = []
    for policy in dict.fromkeys(update.policy for update in summary.updates):
        updates = [update for update in summary.updates if update.policy == policy]
        found += _mismatch(summary, updates[-1])
        if len(updates) >= WINDOW:
            found += _lasting(updates)
    return found


def _mismatch(summary: RunSummary, update: PolicyUpdated) -> Iterator[TrainingWarning]:
    """Later steps, and samples of older weights, differ by what was learned since."""
    first = next((step for step in update.steps if LOGPROB_METRIC in step.metrics), None)
    if first is not None and first.metrics[LOGPROB_METRIC] > MAX_MISMATCH and staleness(summary, update) == 0:
        yield TrainingWarning(
            "logprob_mismatch",
            update.policy,
            update.iteration,
            first.phase,
            f"logprobs of sampler and trainer differ by {first.metrics[LOGPROB_METRIC]:.3f} nats for the same weights",
            "an inference engine of another precision, sampling settings that it does not report, or stale weights in it",
            "compare precision and sampling of both, and correct what remains with learn.importance=truncate",
        )


def _lasting(updates: Sequence[PolicyUpdated]) -> Iterator[TrainingWarning]:
    first, last = updates[: min(WINDOW, len(updates) - WINDOW)], updates[-WINDOW:]
    for phase in dict.fromkeys(step.phase for step in last[-1].steps):
        before, now = (
            _PhaseSteps([step for update in part for step in update.steps if step.phase == phase]) for part in (first, last)
        )
        for name, evidence, cause, advice in _phase_warnings(before, now):
            yield TrainingWarning(name, last[-1].policy, last[-1].iteration, phase, evidence, cause, advice)


class _PhaseSteps:
    """Steps of one phase, together."""

    def __init__(self, steps: Sequence[OptimizerStep]) -> None:
        self._steps = steps
        self.groups = sum(step.groups for step in steps)
        self.silent = sum(step.silent_groups for step in steps) / max(1, self.groups)
        self.reward = sum(step.reward * step.groups for step in steps) / max(1, self.groups)
        self.length = RunningMean(sum(step.tokens for step in steps), sum(step.samples for step in steps)).value

    def metric(self, name: str) -> float | None:
        """Mean over tokens."""
        known = [step for step in self._steps if name in step.metrics]
        return RunningMean(sum(step.metrics[name] * step.tokens for step in known), sum(step.tokens for step in known)).value

    def silence(self) -> str | None:
        """Why most completions without signal have none."""
        counts = {reason: sum(step.silent.get(reason, 0) for step in self._steps) for reason in ("all_wrong", "all_right")}
        reason = max(counts, key=counts.__getitem__)
        return reason if counts[reason] else None


def _phase_warnings(before: _PhaseSteps, now: _PhaseSteps) -> Iterator[tuple[str, str, str, str]]:
    """Name, evidence, cause and advice of what is wrong in a phase."""
    if now.groups >= MIN_GROUPS and now.silent > MAX_ZERO_ADVANTAGE and (reason := now.silence()):
        hard = reason == "all_wrong"
        yield (
            reason,
            f"{now.silent:.0%} of {now.groups} groups carry no signal, most of them because every answer is {reason[4:]}",
            "questions beyond the policy, or answers that the prompt or the verifier does not understand"
            if hard
            else "questions that the policy has learned already",
            "look at verdicts with events.trace, then take easier questions or more attempts"
            if hard
            else "take harder questions, or stop here",
        )
    was, entropy = before.metric("entropy"), now.metric("entropy")
    if was and entropy is not None and entropy < MIN_ENTROPY_SHARE * was:
        yield (
            "entropy_collapse",
            f"entropy fell from {was:.3f} to {entropy:.3f} nats a token",
            "steps that reward what is likely already, until nothing else is tried",
            "start a run on earlier weights (--set model=RUN/weights/DIGEST) with learn.clip_high=0.28, a learn.entropy bonus,"
            " or a lower learn.learning_rate",
        )
    if before.length and now.length and now.length > MAX_LENGTH_GROWTH * before.length and now.reward <= before.reward:
        yield (
            "length_explosion",
            f"completions grew from {before.length:.0f} to {now.length:.0f} tokens while the reward went from"
            f" {before.reward:.2f} to {now.reward:.2f}",
            "a loss that spares long wrong answers, or a policy that forgot how to end",
            "see whether answers are cut off, then try learn.loss=dr_grpo or fewer max_tokens",
        )
    clipped, effective = now.metric("clip_ratio/region_mean"), now.metric("sampling/effective_sample_share")
    if (clipped or 0) > MAX_CLIPPED or (effective is not None and effective < MIN_EFFECTIVE):
        share = "" if effective is None else f", the effective sample size is {effective:.0%} of the tokens"
        yield (
            "off_policy",
            f"{clipped or 0:.0%} of tokens are clipped{share}",
            "steps too large for samples this old",
            "start a run with a lower learn.learning_rate, learn.epochs or learn.staleness; a run keeps its settings",
        )
