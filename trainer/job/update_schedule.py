"""What is to be learned, and in which order: from the run's own log as it is played, or from recordings.

Law: it reads, and computes nothing with weights, so that what would be trained can be told without torch. Samples that are
older than the run allows stop it; so do samples that are not those which a recorded update consumed, where that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from events.facts.errors import ReplayDiverged, TrainerError
from events.facts.log import Event, Log
from events.facts.types import PolicyUpdated, RunStarted
from events.projections.lineage import POLICY_ROLES, PolicyName
from graph.recipes.recipe import Recipe
from graph.settings.config import Config
from trainer.data import replay
from trainer.data.credited_samples import StepBatch, lessons
from trainer.data.replay import Cursor, IterationRollouts


@dataclass(frozen=True)
class TrainingSource:
    """A log to learn from."""

    log: Log
    until: int | None = None
    """Last position that counts; None: as far as it goes."""
    recredit: Recipe | None = None
    """Whose rewards count instead of the recorded ones."""


class UpdateSchedule:
    """The iterations that each policy of a run has to learn."""

    def __init__(
        self,
        log: Log,
        start: RunStarted,
        *,
        until: int | None = None,
        recordings: Sequence[TrainingSource] = (),
        verify: bool = False,
    ) -> None:
        """Read the settings of the run.

        Args:
            log: the run's own, which says what is learned already.
            start: its first fact.
            until: last position of it that counts.
            recordings: what `start` names as its sources; without any, the run's own log is learned.
            verify: whether updates have to be those that the recordings hold.

        Raises:
            TrainerError: the settings are of another version.
        """
        try:
            self.config = Config.recorded(start.config)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise TrainerError(
                f"The run's setting {place} does not fit this version ({problem['msg']}); train it with its own"
            ) from error
        self.start = start
        self.policies: tuple[PolicyName, ...] = ("shared",) if self.config.policies == "shared" else ("teacher", "student")
        self._log = log
        self._recordings = dict(enumerate(recordings, 1)) or {0: TrainingSource(log, until)}
        self._verify = verify

    def place(self, name: PolicyName) -> Cursor:
        """Where a policy stands."""
        return replay.policy_cursor(self._log, name, self.start)

    def next(self, place: Cursor) -> tuple[Cursor, Event] | None:
        """The next finished iteration; the cursor is in its log, where the one before was the last of its own."""
        for number, recording in self._recordings.items():
            if number >= place.source:
                here = place if number == place.source else replace(place, source=number, until=0)
                end = replay.next_finished_iteration(recording.log, here.until, recording.until)
                if end is not None:
                    return here, end
        return None

    def over(self, place: Cursor) -> bool:
        """Whether nothing will be played any more; what was finished before may still wait to be learned."""
        recording = self._recordings.get(0)
        if recording is None:
            return True
        reached = recording.until is not None and self._log.head().position >= recording.until
        return reached or replay.is_run_over(self._log, place.until)

    def window(self, place: Cursor, end: Event) -> IterationRollouts:
        """What the policy has to learn next.

        Raises:
            TrainerError: the samples cannot be learned from, or come from older weights than the run allows.
            ReplayDiverged: they are not those that the recorded update consumed.
        """
        recording = self._recordings[place.source]
        found = replay.iteration_rollouts(recording.log, place, end, recording.recredit)
        if place.source == 0:
            self._check_age(place, found)
        self.check("samples", place, end, found.digest)
        return found

    def lessons(self, place: Cursor, found: IterationRollouts) -> list[StepBatch]:
        """The optimizer steps that a policy takes on it."""
        return lessons(found.groups, self.config.algorithm(), self.config.learn, POLICY_ROLES[place.name])

    def check(self, what: str, place: Cursor, end: Event, found: str) -> None:
        """Compare the digest of `samples` or `weights` with the recorded update, if there is one.

        Raises:
            ReplayDiverged: they differ.
        """
        if not self._verify:
            return
        for event in self._recordings[place.source].log.read(place.stream, after=end.position, kinds=("policy_updated",)):
            fact = event.fact
            if isinstance(fact, PolicyUpdated) and fact.until == end.position:
                expected = fact.samples if what == "samples" else fact.digest
                if found != expected:
                    raise ReplayDiverged(what, position=event.position, expected=expected, found=found)
                return

    def _check_age(self, place: Cursor, found: IterationRollouts) -> None:
        newest = replay.policy_digests(self._log, place.name, self.start)[-1 - self.config.learn.staleness :]
        for role in POLICY_ROLES[place.name]:
            digest = found.policies.get(role)
            if digest is not None and digest not in newest:
                raise TrainerError(
                    f"Iteration {found.iteration} plays its {role} with {digest}, which is not among the newest {len(newest)}"
                    f" weights of {place.name} (now {place.digest}); play with those, or allow more by learn.staleness"
                )
