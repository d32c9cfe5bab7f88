"""Facts about trials: short trainings of a student on a set of questions, to see what the set is worth."""

from __future__ import annotations

from typing import Literal

from events.facts.fact import Fact
from events.facts.values import Digest, OptimizerStep


class TrialStarted(Fact):
    """A trial began: the trainer may train a student, from its present weights, on attempts at a set of questions."""

    kind: Literal["trial_started"] = "trial_started"
    iteration: int
    """Iteration whose episodes made the set."""
    set: int
    """The set, from 1, as in the `EpisodeStarted` of its episodes."""
    student: int
    """Which of the students that are tried on this set, from 1."""
    students: int
    """How many there are: student j learns from every `students`-th attempt at each question, from the j-th on."""
    policy: Digest
    """Weights that it begins with, which sampled the attempts."""
    steps: int
    """Most optimizer steps."""


class TrialLearned(Fact):
    """A student was trained in a trial. This append is the commit point of the training; the policy itself stays as it was."""

    kind: Literal["trial_learned"] = "trial_learned"
    of: int
    """Position of the `TrialStarted`."""
    iteration: int
    """As there."""
    set: int
    """As there."""
    student: int
    """As there."""
    parent: Digest
    """Weights before."""
    digest: Digest
    """Weights after; under `weights/<digest>` until the iteration is learned. Equal to `parent` if nothing was learned."""
    samples: str
    """SHA-256 of the sample stream."""
    steps: tuple[OptimizerStep, ...]
    """Each optimizer step."""
    optimizer: Digest | None = None
    """SHA-256 of the optimizer's state beside the weights; None where there is none."""


class TrialExamined(Fact):
    """The student of a trial answered goalposts greedily, once each, before and after it was trained."""

    kind: Literal["trial_examined"] = "trial_examined"
    iteration: int
    """As in the `TrialStarted` before it in this stream."""
    set: int
    """As there."""
    student: int
    """As there."""
    policy: Digest
    """Weights after the training."""
    questions: int
    """Goalposts asked."""
    before: int
    """How many of them the weights before passed."""
    after: int
    """How many of them the weights after passed."""

    @property
    def gain(self) -> float:
        """Accuracy after minus accuracy before, -1 to 1."""
        return (self.after - self.before) / self.questions


class StudentPromoted(Fact):
    """The student of a trial takes the place of the policy that it began with; the next `PolicyUpdated` makes it so."""

    kind: Literal["student_promoted"] = "student_promoted"
    iteration: int
    """Iteration of the trial."""
    set: int
    """Its set, whose gain was the largest."""
    student: int
    """The student with the median gain on that set."""
    policy: Digest
    """Its weights."""
    gain: float
    """Mean gain of all trials of the last iterations, which exceeded the threshold."""
    window: int
    """How many iterations that were."""
