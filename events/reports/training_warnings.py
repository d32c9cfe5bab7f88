"""Warnings about how a run learns, each with its evidence, a likely cause and advice; a pure function of the summary.

Guarantees: a warning needs enough groups, and updates in a row, to be given; it stops nothing.

The thresholds are ours; what they warn of is the papers'. The default pocket run of 40 iterations stays well away from them:
entropy never fell below 26 % of the first, at most 73 % of a phase's groups had zero advantage, completions grew by at most
31 %, and logprobs of the weights that sampled differed by less than a millionth of a nat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from events.facts.types import PolicyUpdated
from events.facts.values import OptimizerStep, Phase
from events.projections.figures import RunningMean
from events.projections.run_summary import RunSummary, staleness

WINDOW: Final = 3
"""Latest updates of a policy that are compared with as many of its first."""
MIN_ENTROPY_SHARE: Final = 0.1
"""Share of the first entropy below which the entropy has collapsed (arXiv 2505.22617)."""
MAX_ZERO_ADVANTAGE: Final = 0.9
"""Share of zero-advantage groups above which a phase teaches nothing (DAPO's reason to resample, arXiv 2503.14476)."""
MIN_GROUPS: Final = 16
"""Groups that a share needs, at least."""
MAX_LENGTH_GROWTH: Final = 2.0
"""Factor by which completions may grow without growth of the reward (arXiv 2503.20783)."""
MAX_MISMATCH: Final = 0.02
"""Mean logprob mismatch of sampler and trainer for the same weights, in nats; the trainer stops at 0.1."""
MAX_CLIPPED: Final = 0.3
"""Share of clipped tokens; PPO's is usually 0.1 to 0.2 (arXiv 1707.06347)."""
MIN_EFFECTIVE: Final = 0.5
"""Effective sample size, as a share of the tokens, that off-policy samples need."""
LOGPROB_METRIC: Final = "sampling/sampling_logp_difference/mean"
"""TRL's name of the mean logprob mismatch of sampler and trainer."""


Key = tuple[str, str, Phase]
"""Name, policy and phase: what identifies a warning while it lasts."""


class TrainingWarning(NamedTuple):
    """Something that is probably wrong with an update."""

    name: str
    policy: str
    iteration: int
    phase: Phase
    evidence: str
    cause: str
    advice: str

    @property
    def key(self) -> Key:
        """What identifies the warning while it lasts."""
        return self.name, self.policy, self.phase

    def __str__(self) -> str:
        """The warning as one line."""
        where = f"{self.policy}, {self.phase} of iteration {self.iteration}"
        return f"{self.name.replace('_', ' ')} ({where}): {self.evidence}; probably {self.cause}; {self.advice}"


WARNING_NAMES: Final = ("entropy_collapse", "all_wrong", "all_right", "length_explosion", "off_policy", "logprob_mismatch")
"""Names of all warnings."""


def diagnose(summary: RunSummary) -> list[TrainingWarning]:
    """Warnings about the latest updates of each policy."""
    warnings: list[TrainingWarning] = []
    for policy in dict.fromkeys(update.policy for update in summary.updates):
        updates = [update for update in summary.updates if update.policy == policy]
        warnings += _mismatch(summary, updates[-1])
        if len(updates) >= WINDOW:
            warnings += _lasting(updates)
    return warnings


def _mismatch(summary: RunSummary, update: PolicyUpdated) -> Iterator[TrainingWarning]:
    """Only the first step, and only samples of the current weights: others differ by what was learned since."""
    if summary.corrects_mismatch:
        return
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
        steps = [[step for update in part for step in update.steps if step.phase == phase] for part in (first, last)]
        before, now = map(_PhaseSteps, steps)
        for name, evidence, cause, advice in _phase_warnings(before, now):
            yield TrainingWarning(name, last[-1].policy, last[-1].iteration, phase, evidence, cause, advice)


class _PhaseSteps:
    """Figures of one phase over several steps."""

    def __init__(self, steps: Sequence[OptimizerStep]) -> None:
        self._steps = steps
        self.groups = sum(step.groups for step in steps)
        self.zero_advantage = sum(step.silent_groups for step in steps) / max(1, self.groups)
        self.reward = sum(step.reward * step.groups for step in steps) / max(1, self.groups)
        self.length = RunningMean(sum(step.tokens for step in steps), sum(step.samples for step in steps)).value

    def metric(self, name: str) -> float | None:
        """Mean of a metric over tokens."""
        having = [step for step in self._steps if name in step.metrics]
        return RunningMean(sum(step.metrics[name] * step.tokens for step in having), sum(step.tokens for step in having)).value

    def zero_advantage_reason(self) -> str | None:
        """Why most zero-advantage groups have no advantage."""
        counts = {reason: sum(step.silent.get(reason, 0) for step in self._steps) for reason in ("all_wrong", "all_right")}
        reason = max(counts, key=counts.__getitem__)
        return reason if counts[reason] else None


def _phase_warnings(before: _PhaseSteps, now: _PhaseSteps) -> Iterator[tuple[str, str, str, str]]:
    """Name, evidence, cause and advice of each warning about a phase."""
    if now.groups >= MIN_GROUPS and now.zero_advantage > MAX_ZERO_ADVANTAGE and (reason := now.zero_advantage_reason()):
        too_hard = reason == "all_wrong"
        yield (
            reason,
            f"{now.zero_advantage:.0%} of {now.groups} groups have zero advantage, most because every answer is {reason[4:]}",
            "questions beyond the policy, or answers that the prompt or the verifier does not understand"
            if too_hard
            else "questions that the policy has learned already",
            "look at verdicts with events.trace, then take easier questions or more attempts"
            if too_hard
            else "take harder questions, or stop here",
        )
    first_entropy, entropy = before.metric("entropy"), now.metric("entropy")
    if first_entropy and entropy is not None and entropy < MIN_ENTROPY_SHARE * first_entropy:
        yield (
            "entropy_collapse",
            f"entropy fell from {first_entropy:.3f} to {entropy:.3f} nats a token",
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
