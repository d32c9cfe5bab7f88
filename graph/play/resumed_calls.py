"""What the walks of a broken-off iteration had asked already, so that a run that goes on repeats the batches that were cut.

A row of a batch is rounded by the shape of its batch. An episode whose answers were lost therefore has to be sampled in the
same batch again, together with the requests of those whose answers are recorded; theirs are asked for their neighbours' sake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from events.facts.hashing import blob_hash
from events.facts.log import Event, Log
from events.facts.rollouts import pack_rollouts
from events.facts.types import AttemptsMade, QuestionProposed
from events.facts.values import Generation
from events.text.logging import logger
from graph.play.state import EpisodeState, fold_episode
from roles.model import GenerationReply, GenerationRequest, Model

OBSERVED_CALLS: Final = "calls"
"""In what a visit observed: its calls by their number in the walk, `model` or `runner`."""


@dataclass(frozen=True)
class EarlierCalls:
    """The calls of a walk whose answers are recorded."""

    calls: tuple[Callable[[], Awaitable[None]] | None, ...] = ()
    """In order; each asks a model the same again, and is None where programs were run."""
    over: bool = False
    """Whether the walk has ended."""


def earlier_calls(
    log: Log, streams: Sequence[str], *, system: str | None, teacher: Model, student: Model, exact: bool
) -> list[EarlierCalls]:
    """What each episode of an iteration has asked, by what its events say.

    Args:
        log: where they are.
        streams: the episodes, in the order of their walks.
        system: the system message of the run's prompts.
        teacher: who is asked for proposals.
        student: who is asked for answers.
        exact: whether an equal batch gives equal samples. If not, no model is asked twice, and only the order is kept.

    Returns:
        One an episode; nothing if the log does not say which calls there were, as older ones do not.
    """
    found = []
    for stream in streams:
        events = list(log.read(stream))
        models = [(made, teacher if proposes else student) for made, proposes in _generations(events)]
        kinds = {int(number): kind for event in events for number, kind in event.observed.get(OBSERVED_CALLS, {}).items()}
        asked = [number for number in sorted(kinds) if kinds[number] == "model"]
        if sorted(kinds) != list(range(1, len(kinds) + 1)) or len(asked) != len(models):
            return []
        again = {
            number: partial(_sample_again, log, stream, model, system, made)
            for number, (made, model) in zip(asked, models, strict=True)
            if exact
        }
        over = fold_episode(EpisodeState(stream=stream), events).ended
        found.append(EarlierCalls(tuple(again.get(number) for number in sorted(kinds)), over))
    return found


def _generations(events: Sequence[Event]) -> list[tuple[Generation, bool]]:
    """What was sampled, in order, and whether the teacher did."""
    facts = (event.fact for event in events)
    return [
        (fact.generation, isinstance(fact, QuestionProposed))
        for fact in facts
        if isinstance(fact, AttemptsMade | QuestionProposed)
    ]


async def _sample_again(log: Log, stream: str, model: Model, system: str | None, made: Generation) -> None:
    """Sample what was sampled before. That it comes out differently, as on another kind of processor, is said."""
    prompt = log.get(made.prompt).decode("utf-8", "surrogatepass")
    replies: list[GenerationReply | None] = list(
        await model.generate([GenerationRequest(prompt, made.count, made.seed, made.sampling, system)])
    )
    for reply in replies:
        # There is none where nobody else needed that batch.
        if reply is not None and blob_hash(_packed(reply)) != made.tokens:
            logger().warning("sampled_differently", stream=stream, seed=made.seed)


def _packed(reply: GenerationReply) -> bytes:
    answers = reply.completions
    return pack_rollouts(reply.prompt_ids, [answer.token_ids for answer in answers], [answer.logprobs for answer in answers])
