"""Calls that the episodes of an interrupted iteration had made before the stop, so that a resumed run repeats the cut batches.

The shape of a batch affects the rounding of its rows. An episode whose completions were lost must therefore be sampled in the
same batch again, together with the requests of episodes whose completions are recorded; these only fill the batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from events.facts.hashing import blob_hash
from events.facts.log import Log
from events.facts.types import AttemptsMade, QuestionProposed
from events.facts.values import Generation
from events.text.logging import logger
from graph.play.state import EpisodeState, fold_episode
from roles.generation_record import pack_reply
from roles.model import GenerationReply, GenerationRequest, Model

OBSERVED_CALLS: Final = "calls"
"""Observation of a node execution: for each call, by its number in the episode, `model` or `runner`."""


@dataclass(frozen=True)
class EarlierCalls:
    """The calls of an episode whose results are recorded."""

    calls: tuple[Callable[[], Awaitable[None]] | None, ...] = ()
    """In order. Each samples the same again; None where programs were run."""
    over: bool = False
    version: int = 0
    """Version of its stream when they were read."""


def earlier_calls(
    log: Log,
    streams: Sequence[str],
    *,
    system: str | None,
    teacher: Model,
    student: Model,
    exact: bool,
    is_over: Callable[[EpisodeState], bool] = lambda episode: episode.ended,
) -> list[EarlierCalls]:
    """The earlier calls of each episode of an iteration, in the order of `streams`; empty if the log is too old to say which.

    `exact` says whether an equal batch gives equal completions. If not, nothing is sampled twice, and only the order is kept.
    `is_over` says whether an episode makes no more calls.
    """
    episodes = []
    for stream in streams:
        events = list(log.read(stream))
        generations = [
            (event.fact.generation, teacher if isinstance(event.fact, QuestionProposed) else student)
            for event in events
            if isinstance(event.fact, AttemptsMade | QuestionProposed)
        ]
        kinds = {int(number): kind for event in events for number, kind in event.observed.get(OBSERVED_CALLS, {}).items()}
        numbers = [number for number in sorted(kinds) if kinds[number] == "model"]
        if sorted(kinds) != list(range(1, len(kinds) + 1)) or len(numbers) != len(generations):
            return []
        again = {
            number: partial(_sample_again, log, stream, model, system, generation)
            for number, (generation, model) in zip(numbers, generations, strict=True)
            if exact
        }
        over = is_over(fold_episode(EpisodeState(stream=stream), events))
        episodes.append(EarlierCalls(tuple(again.get(number) for number in sorted(kinds)), over, len(events)))
    return episodes


async def _sample_again(log: Log, stream: str, model: Model, system: str | None, made: Generation) -> None:
    """Sample what was sampled before. That it comes out differently, as on another kind of processor, is said."""
    prompt = log.get(made.prompt).decode("utf-8", "surrogatepass")
    replies: list[GenerationReply | None] = list(
        await model.generate([GenerationRequest(prompt, made.count, made.seed, made.sampling, system, made.parts)])
    )
    for reply in replies:
        # There is no reply where no other episode needed that batch.
        if reply is not None and blob_hash(pack_reply(reply)) != made.tokens:
            logger().warning("sampled_differently", stream=stream, seed=made.seed)
