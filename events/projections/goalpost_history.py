"""History of a goalpost: its episodes, their proposals and answers, and which weights learned from each.

Guarantees: places come from the index, the rest from the streams that it names; nothing is computed that is not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from events.facts.log import ReadableLog
from events.facts.types import EpisodeFailed, PolicyUpdated
from events.facts.values import Axis, Digest, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry, EpisodeEntry, GapEntry
from events.projections.lineage import consuming_weights

_MAX_PROMPTS = 200
"""Prompts of one episode whose answers are read."""


@dataclass(frozen=True)
class EpisodeHistory:
    """A guided episode of a goalpost and what its teacher proposed."""

    stream: str
    position: int
    iteration: int
    axis: Axis
    ending: str | None
    """Reason of the end; None while it goes on."""
    gap: float | None
    """The gap that the episode measured, 0 to 1."""
    gap_after: float | None
    """The next gap that an episode or an evaluation measured, 0 to 1."""
    best_share: float | None
    """Largest share of tests that one answer to the goalpost passed, 0 to 1."""
    proposals: tuple[AppearanceEntry, ...]

    @property
    def lemmas(self) -> list[AppearanceEntry]:
        """The easy seat's proposals, rejected ones included."""
        return [proposal for proposal in self.proposals if proposal.origin == "lemma"]

    @property
    def lifts(self) -> list[AppearanceEntry]:
        """The hard seat's proposals, rejected ones included."""
        return [proposal for proposal in self.proposals if proposal.origin == "lift"]


@dataclass(frozen=True)
class EpisodeDetail(EpisodeHistory):
    """An episode with the student's answers and the weights that learned from it."""

    answers: tuple[AttemptsEntry, ...]
    """One entry a prompt, in order."""
    learned: tuple[Digest, ...]
    """Weights whose update consumed a reward of the episode."""
    failure: str | None
    """Error that the episode failed with; None where it did not fail."""

    @property
    def gap_answers(self) -> list[AttemptsEntry]:
        """Answers to the goalpost itself."""
        return [answers for answers in self.answers if answers.purpose == "gap"]

    def answers_to(self, proposal: AppearanceEntry) -> list[AttemptsEntry]:
        """Answers to what was proposed; where a question was proposed twice, they belong to the first proposal."""
        first = next(other for other in self.proposals if other.question == proposal.question)
        return [answers for answers in self.answers if first is proposal and answers.question == proposal.question]


def episode_histories(
    index: Index, goalpost: QuestionId, gaps: Sequence[GapEntry], *, limit: int, before: int | None = None
) -> list[EpisodeHistory]:
    """The latest `limit` episodes of a goalpost that began before a position, the oldest first; `gaps` are all its measures."""
    # An episode measures its goalpost once, in its own stream.
    measures = {gap.stream: gap for gap in gaps}
    latest = index.episodes(goalpost, before=before, limit=limit)
    return [_history(index, episode, measures.get(episode.stream), gaps) for episode in reversed(latest)]


def _history(index: Index, episode: EpisodeEntry, measure: GapEntry | None, gaps: Sequence[GapEntry]) -> EpisodeHistory:
    after = None if measure is None else next((gap.gap for gap in gaps if gap.position > measure.position), None)
    return EpisodeHistory(
        stream=episode.stream,
        position=episode.position,
        iteration=episode.iteration,
        axis=episode.axis,
        ending=episode.ending,
        gap=None if measure is None else measure.gap,
        gap_after=after,
        best_share=None if measure is None else measure.best_share,
        proposals=tuple(index.proposals(episode.stream)),
    )


def episode_detail(log: ReadableLog, index: Index, episode: EpisodeHistory, updates: Sequence[PolicyUpdated]) -> EpisodeDetail:
    """The episode with its answers and those of all updates of the run that learned from it."""
    ends = list(log.read(episode.stream, kinds=("reward_given", "episode_failed")))
    failures = (event.fact for event in ends if isinstance(event.fact, EpisodeFailed))
    return EpisodeDetail(
        **vars(episode),
        answers=tuple(reversed(index.answers(stream=episode.stream, limit=_MAX_PROMPTS))),
        learned=tuple(consuming_weights(updates, ends)),
        failure=next((f"{failure.error}: {failure.message}" for failure in failures), None),
    )
