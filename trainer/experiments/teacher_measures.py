"""Measures of a teacher's questions by iteration and seat: validity, novelty, copies and repeats, and more (`MEASURES`).

Every measure is a mean over proposals or questions, so that iterations and seeds can be pooled. No question is run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from events.facts.drawn_facts import ReferencesDrawn
from events.facts.log import Event, Log
from events.facts.questions import read_question
from events.facts.types import (
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    GoalpostAdded,
    PassRateMeasured,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
)
from events.facts.values import BlobHash, Question, QuestionId, Seat
from events.projections.figures import RunningMean
from events.pure.program_structure import structure_hash
from roles.pocket.world import motifs

MEASURES: Final = {
    "valid": "of proposals, those that can be asked: parsed, safe, deterministic, not degenerate",
    "novel": "of valid ones, those that were not rejected as too similar to an accepted one",
    "accepted": "of proposals, those that became a lemma, a lift or an open question",
    "aligned": "of novel ones, those whose statement and program agree",
    "diversity": "of novel ones, 1 - the largest similarity to an accepted one, on average",
    "pass rate": "of the student, on novel ones",
    "overlap": "of an accepted question's operations, those of its goalpost",
    "copies": "of questions, those with the statement of their goalpost, parent or reference, or with its program, names aside",
    "repeats": "of questions, those with the program, names aside, of an earlier question of the run, and no copies",
    "noise": "of proposals, those that are degenerate: a line or all of it changes nothing",
}
"""Measures by name, with their meaning."""
_KINDS: Final = (
    "goalpost_added",
    "episode_started",
    "references_drawn",
    "question_proposed",
    "question_rejected",
    "question_validated",
    "pass_rate_measured",
    "question_accepted",
    "episode_finished",
    "episode_failed",
)

Measures = dict[str, RunningMean]
"""Means by the names of `MEASURES`."""


@dataclass
class TeacherMeasures:
    """Measures of one teacher."""

    seats: dict[Seat, dict[int, Measures]] = field(default_factory=dict)
    """Measures by iteration, for seats that proposed."""
    rejected: dict[Seat, Counter[Reason]] = field(default_factory=lambda: defaultdict(Counter))
    """Rejected proposals by reason."""
    proposed: Counter[Seat] = field(default_factory=Counter)

    def of(self, seat: Seat, iterations: Iterable[int]) -> Measures:
        """Measures of several iterations, pooled."""
        by_iteration = self.seats.get(seat, {})
        return pooled(by_iteration[number] for number in iterations if number in by_iteration)


def pooled(parts: Iterable[Measures]) -> Measures:
    """Measures of all parts together."""
    whole = {name: RunningMean() for name in MEASURES}
    for part in parts:
        for name, mean in part.items():
            whole[name].add(mean.total, mean.count)
    return whole


def teacher_measures(log: Log) -> TeacherMeasures:
    """The measures of the teacher of a run.

    Raises:
        LogCorrupt: a question is missing or damaged.
    """
    fold = _TeacherFold(log)
    for event in log.read(kinds=_KINDS):
        fold.apply(event)
    return fold.measures


@dataclass
class _TaughtEpisode:
    started: EpisodeStarted
    shown: frozenset[BlobHash]
    """Questions that the teacher was shown, and the goalpost."""
    validated: bool = False
    """Whether the last proposal was validated."""


class _TeacherFold:
    def __init__(self, log: Log) -> None:
        self._log = log
        self._episodes: dict[str, _TaughtEpisode] = {}
        self._blobs: dict[QuestionId, BlobHash] = {}
        """Blobs of questions that may be a parent."""
        self._programs: dict[BlobHash, str | None] = {}
        """Structure hashes of the programs of questions that were compared."""
        self._written: set[str] = set()
        """Those of the teacher's own questions."""
        self.measures = TeacherMeasures()

    def apply(self, event: Event) -> None:
        """Fold one more event."""
        match event.fact:
            case GoalpostAdded(question=question, blob=blob):
                self._blobs[question] = blob
            case EpisodeStarted(question=question, blob=blob) as fact:
                self._blobs[question] = blob
                self._episodes[event.stream] = _TaughtEpisode(fact, frozenset([blob]))
            case ReferencesDrawn(references=references):
                self._episodes[event.stream].shown |= frozenset(references)
            case EpisodeFinished() | EpisodeFailed():
                self._episodes.pop(event.stream, None)
            case QuestionProposed(seat=seat, parent=parent):
                episode = self._episodes[event.stream]
                episode.shown, episode.validated = episode.shown | {self._blobs[parent]}, False
                self.measures.proposed[seat] += 1
            case _ if event.stream in self._episodes:
                self._apply_in_episode(event, self._episodes[event.stream])

    def _apply_in_episode(self, event: Event, episode: _TaughtEpisode) -> None:
        match event.fact:
            case QuestionValidated(seat=seat, blob=blob, similarity=similarity, aligned=aligned):
                episode.validated, measures = True, self._measures(episode, seat)
                measures["diversity"].add(1 - similarity)
                if aligned is not None:
                    measures["aligned"].add(aligned)
                self._compare(episode, measures, blob)
            case PassRateMeasured(seat=seat, successes=successes, attempts=attempts):
                self._measures(episode, seat)["pass rate"].add(successes / attempts)
            case QuestionRejected(seat=seat, reason=reason, blob=blob):
                measures = self._measures(episode, seat)
                self.measures.rejected[seat][reason] += 1
                self._count_end(episode, measures, reason)
                if blob is not None and not episode.validated:
                    self._compare(episode, measures, blob)
            case QuestionAccepted(seat=seat, question=question, blob=blob):
                measures = self._measures(episode, seat)
                self._blobs[question] = blob
                self._count_end(episode, measures, None)
                self._add_overlap(episode, measures, blob)

    def _measures(self, episode: _TaughtEpisode, seat: Seat) -> Measures:
        return self.measures.seats.setdefault(seat, defaultdict(lambda: pooled(())))[episode.started.iteration]

    @staticmethod
    def _count_end(episode: _TaughtEpisode, measures: Measures, reason: Reason | None) -> None:
        # The novelty of a validated question is checked once more when its pass rate is known.
        valid = episode.validated or reason == "not_novel"
        measures["valid"].add(valid)
        measures["noise"].add(reason == "degenerate")
        measures["accepted"].add(reason is None)
        if valid:
            measures["novel"].add(reason != "not_novel")

    def _compare(self, episode: _TaughtEpisode, measures: Measures, blob: BlobHash) -> None:
        """Compare a question with those that the teacher was shown, and with all that it wrote before."""
        program = self._program(blob)
        copied = any(self._is_copy(blob, shown) for shown in episode.shown)
        measures["copies"].add(copied)
        measures["repeats"].add(not copied and program in self._written)
        if program is not None:
            self._written.add(program)

    def _is_copy(self, blob: BlobHash, shown: BlobHash) -> bool:
        """Whether a question has the statement or the program of another one, white space and names aside."""
        own, other = (self._question(each).statement.split() for each in (blob, shown))
        program = self._program(blob)
        return own == other or (program is not None and program == self._program(shown))

    def _program(self, blob: BlobHash) -> str | None:
        """The structure hash of a question's program; None where it has none."""
        if blob not in self._programs:
            program = self._question(blob).program
            self._programs[blob] = None if program is None else structure_hash(program)
        return self._programs[blob]

    def _add_overlap(self, episode: _TaughtEpisode, measures: Measures, blob: BlobHash) -> None:
        """Add the overlap with the goalpost, in guided episodes of a world whose statements name operations."""
        own, goalpost = (motifs(self._question(each).statement) for each in (blob, episode.started.blob))
        if episode.started.purpose == "guided" and own and goalpost:
            measures["overlap"].add(len(own & goalpost) / len(own))

    def _question(self, blob: BlobHash) -> Question:
        return read_question(self._log, blob)
