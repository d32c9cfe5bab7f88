"""The opening of an episode: its first events, which are appended together."""

from __future__ import annotations

from typing import Final

from events.facts.drawn_facts import ReferencesDrawn
from events.facts.errors import BadInput
from events.facts.fact import Fact
from events.facts.log import Event
from events.facts.questions import read_question
from events.facts.types import EpisodeFailed
from graph.play.context import NodeContext
from graph.play.episode_sampling import SampledEpisode
from graph.play.given_texts import given_text

OPENING_KEY: Final = "opening"
"""Key of the append that begins an episode."""


def open_episode(context: NodeContext, sampled: SampledEpisode) -> list[Event]:
    """Append the opening of an episode."""
    opening = [sampled.fact, *_further(context, sampled)]
    return context.log.append(sampled.stream, opening, expected=0, key=OPENING_KEY)


def _further(context: NodeContext, sampled: SampledEpisode) -> list[Fact]:
    if sampled.document is not None:
        return [sampled.document]
    if sampled.references:
        return [ReferencesDrawn(references=sampled.references)]
    texts = context.plan(sampled.fact.iteration).texts
    if not sampled.gives_text or texts is None:
        return []
    question = read_question(context.log, sampled.fact.blob)
    try:
        return [given_text(context, texts, question, sampled.certain, sampled.fact.seed)]
    except BadInput as error:
        return [EpisodeFailed(error=type(error).__name__, message=str(error))]
