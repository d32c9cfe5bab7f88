"""What a teacher wrote: validity, novelty, likeness to what it was shown, and its ways of cheating, by iteration and seat.

Law: a pure fold of a log, with its questions read and none of them run. Every measure is a mean over proposals or over
questions, so that iterations and seeds can be pooled, and a measure that a log says nothing about is a mean of nothing.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from events.facts.log import Event, Log
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
    ReferencesDrawn,
)
from events.facts.values import BlobHash, Question, QuestionId, Seat
from events.projections.run_summary import RunningMean
from roles.judging.safety import parse_source
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
"""What is measured, each a mean."""
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
    """One teacher."""

    seats: dict[Seat, dict[int, Measures]] = field(default_factory=dict)
    """Measures by iteration, of seats that proposed."""
    rejected: dict[Seat, Counter[Reason]] = field(default_factory=lambda: defaultdict(Counter))
    """By reason."""
    proposed: Counter[Seat] = field(default_factory=Counter)

    def of(self, seat: Seat, iterations: Iterable[int]) -> Measures:
        """Measures of several iterations, pooled."""
        found = self.seats.get(seat, {})
        return pooled(found[number] for number in iterations if number in found)


def pooled(parts: Iterable[Measures]) -> Measures:
    """Measures of all parts together."""
    whole = {name: RunningMean() for name in MEASURES}
    for part in parts:
        for name, mean in part.items():
            whole[name].add(mean.total, mean.count)
    return whole


def teaching(log: Log) -> TeacherMeasures:
    """What the teacher of a run wrote.

    Raises:
        LogCorrupt: a question is missing or damaged.
    """
    reader = _TeacherFold(log)
    for event in log.read(kinds=_KINDS):
        reader.apply(event)
    return reader.found


@dataclass
class _OpenEpisode:
    """An episode that has not ended."""

    started: EpisodeStarted
    shown: frozenset[BlobHash]
    """Questions that the teacher saw, and the goalpost, which it may know."""
    validated: bool = False
    """Whether the last proposal is a question already."""


class _TeacherFold:
    """Folds a log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._walks: dict[str, _OpenEpisode] = {}
        self._blobs: dict[QuestionId, BlobHash] = {}
        """Of questions that may be a parent."""
        self._programs: set[str] = set()
        self.found = TeacherMeasures()

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        match event.fact:
            case GoalpostAdded(question=question, blob=blob):
                self._blobs[question] = blob
            case EpisodeStarted(question=question, blob=blob) as fact:
                self._blobs[question] = blob
                self._walks[event.stream] = _OpenEpisode(fact, frozenset([blob]))
            case ReferencesDrawn(references=references):
                self._walks[event.stream].shown |= frozenset(references)
            case EpisodeFinished() | EpisodeFailed():
                self._walks.pop(event.stream, None)
            case QuestionProposed(seat=seat, parent=parent):
                walk = self._walks[event.stream]
                walk.shown, walk.validated = walk.shown | {self._blobs[parent]}, False
                self.found.proposed[seat] += 1
            case _ if event.stream in self._walks:
                self._judged(event, self._walks[event.stream])

    def _judged(self, event: Event, walk: _OpenEpisode) -> None:
        match event.fact:
            case QuestionValidated(seat=seat, blob=blob, similarity=similarity, aligned=aligned):
                walk.validated, measures = True, self._measures(walk, seat)
                measures["diversity"].add(1 - similarity)
                if aligned is not None:
                    measures["aligned"].add(aligned)
                self._likened(walk, measures, blob)
            case PassRateMeasured(seat=seat, successes=successes, attempts=attempts):
                self._measures(walk, seat)["pass rate"].add(successes / attempts)
            case QuestionRejected(seat=seat, reason=reason, blob=blob):
                measures = self._measures(walk, seat)
                self.found.rejected[seat][reason] += 1
                self._ended(walk, measures, reason)
                if blob is not None and not walk.validated:
                    self._likened(walk, measures, blob)
            case QuestionAccepted(seat=seat, question=question, blob=blob):
                measures = self._measures(walk, seat)
                self._blobs[question] = blob
                self._ended(walk, measures, None)
                self._overlapped(walk, measures, blob)

    def _measures(self, walk: _OpenEpisode, seat: Seat) -> Measures:
        return self.found.seats.setdefault(seat, defaultdict(lambda: pooled(())))[walk.started.iteration]

    @staticmethod
    def _ended(walk: _OpenEpisode, measures: Measures, reason: Reason | None) -> None:
        # A validated question is asked for its novelty once more, when its pass rate is known.
        valid = walk.validated or reason == "not_novel"
        measures["valid"].add(valid)
        measures["noise"].add(reason == "degenerate")
        measures["accepted"].add(reason is None)
        if valid:
            measures["novel"].add(reason != "not_novel")

    def _likened(self, walk: _OpenEpisode, measures: Measures, blob: BlobHash) -> None:
        """Compare a question with what the teacher was shown, and with all that it wrote before."""
        asked = self._question(blob)
        program = normalized_program(asked.program)
        copied = any(_is_copy(asked, program, self._question(shown)) for shown in walk.shown)
        measures["copies"].add(copied)
        measures["repeats"].add(not copied and program in self._programs)
        if program is not None:
            self._programs.add(program)

    def _overlapped(self, walk: _OpenEpisode, measures: Measures, blob: BlobHash) -> None:
        """Only where a goalpost guides, and only in a world whose statements name operations."""
        named, wanted = (motifs(self._question(one).statement) for one in (blob, walk.started.blob))
        if walk.started.purpose == "guided" and named and wanted:
            measures["overlap"].add(len(named & wanted) / len(named))

    def _question(self, blob: BlobHash) -> Question:
        return Question.model_validate_json(self._log.get(blob))


def _is_copy(asked: Question, program: str | None, shown: Question) -> bool:
    same_words = " ".join(asked.statement.split()) == " ".join(shown.statement.split())
    return same_words or (program is not None and program == normalized_program(shown.program))


@lru_cache(maxsize=4096)
def normalized_program(program: str | None) -> str | None:
    """What is left of a program without comments, and with its own names replaced in order; None where it is none."""
    tree = None if program is None else parse_source(program)
    if tree is None:
        return None
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                names.setdefault(name, f"_{len(names)}")
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                node.id = names.get(name, name)
            case ast.arg(arg=name):
                node.arg = names[name]
            case ast.FunctionDef(name=name):
                node.name = names[name]
    return ast.dump(tree, annotate_fields=False)
