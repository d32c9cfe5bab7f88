"""Episodes as spans, under the GenAI semantic conventions of OpenTelemetry (attributes `gen_ai.*`; ours are `gasp.*`).

An episode is a trace. Its own span (`invoke_workflow`) has a child for each generation of a model (`text_completion`, with the
graph's node as `gen_ai.agent.name`) and one for each call of the verifier (`execute_tool`); every other fact is an event on it.
A span starts with the fact before it in the stream and ends with its own, so it includes waiting for a batch.

Guarantees: counts, ids and names only; no text of a prompt, completion, program or message leaves the log. Ids follow from
hashes and times of events, so that an episode sent twice is one trace. Episodes that have not ended are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import PurePath
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event as Moment
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from events.facts.digests import NAME_DIGITS
from events.facts.fact import Fact
from events.facts.log import Event, Log
from events.facts.rollouts import unpack_rollouts
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    QuestionProposed,
    RunStarted,
)
from events.facts.values import Generation, count_passed

FIELDS: Final = {
    *("iteration", "purpose", "question", "axis", "seat", "attempt", "parent", "task", "phase", "reason"),
    *("gap", "successes", "attempts", "best_share", "similarity", "aligned"),
}
"""Fields of facts that become attributes `gasp.*`; none holds text that a model wrote."""

Attributes = dict[str, str | bool | int | float | list[str]]


def traces(log: Log, name: str) -> Iterator[list[ReadableSpan]]:
    """The spans of each episode that has ended, its own span last."""
    resource = Resource({"service.name": "gasp", "gasp.run": name})
    model = "unknown"
    open_episodes: dict[str, _EpisodeTrace] = {}
    for event in log.read():
        match event.fact:
            case RunStarted(config=config):
                # Only the name of the model's folder, not its path.
                model = PurePath(str(config.get("model", model))).name
            case EpisodeStarted():
                open_episodes[event.stream] = _EpisodeTrace(event, model, resource)
            case EpisodeFinished(reason=reason) if event.stream in open_episodes:
                yield open_episodes.pop(event.stream).end(event, {"gasp.reason": reason})
            case EpisodeFailed(error=error) if event.stream in open_episodes:
                yield open_episodes.pop(event.stream).end(event, {"error.type": error}, Status(StatusCode.ERROR))
            case _ if event.stream in open_episodes:
                open_episodes[event.stream].add_event(event, log)


class _EpisodeTrace:
    """The spans of an episode that has not ended."""

    def __init__(self, started: Event, model: str, resource: Resource) -> None:
        self._started = self._latest = started
        self._model = model
        self._resource = resource
        self._trace = int(_digest(started, "trace")[:32], 16)
        self._spans: list[ReadableSpan] = []
        self._moments: list[Moment] = []

    def add_event(self, event: Event, log: Log) -> None:
        match event.fact:
            case QuestionProposed(seat=seat, generation=generation):
                self._add(event, "text_completion", self._model, self._answer(f"teacher_{seat}", generation, log))
            case AttemptsMade(generation=generation):
                self._add(event, "text_completion", self._model, self._answer("solver", generation, log))
            case AttemptsVerified(verdicts=verdicts):
                passed = count_passed(verdicts)
                counts = {"gasp.verdicts": len(verdicts), "gasp.passed": passed}
                self._add(event, "execute_tool", "verifier", {"gen_ai.tool.name": "verifier", **counts})
            case fact:
                self._moments.append(Moment(fact.kind, _shown(fact), _nanoseconds(event)))
        self._latest = event

    def end(self, event: Event, ending: Attributes, status: Status | None = None) -> list[ReadableSpan]:
        about: Attributes = {"gen_ai.workflow.name": "gasp", "gasp.stream": event.stream, **_shown(self._started.fact)}
        self._spans.append(
            ReadableSpan(
                name="invoke_workflow gasp",
                context=self._context(self._started),
                resource=self._resource,
                attributes={"gen_ai.operation.name": "invoke_workflow", **about, **ending},
                events=self._moments,
                status=status or Status(),
                start_time=_nanoseconds(self._started),
                end_time=_nanoseconds(event),
            )
        )
        return self._spans

    def _add(self, event: Event, operation: str, target: str, attributes: Attributes) -> None:
        self._spans.append(
            ReadableSpan(
                name=f"{operation} {target}",
                context=self._context(event),
                parent=self._context(self._started),
                resource=self._resource,
                attributes={"gen_ai.operation.name": operation, **_shown(event.fact), **attributes},
                start_time=_nanoseconds(self._latest),
                end_time=_nanoseconds(event),
            )
        )

    def _context(self, event: Event) -> SpanContext:
        return SpanContext(self._trace, int(_digest(event, "span")[:16], 16), is_remote=False, trace_flags=TraceFlags(1))

    def _answer(self, node: str, generation: Generation, log: Log) -> Attributes:
        rollouts, sampling = unpack_rollouts(log.get(generation.tokens)), generation.sampling
        full = [len(ids) >= sampling.max_tokens for ids in rollouts.ids]
        return {
            # No provider of models: the weights are those of the run.
            "gen_ai.provider.name": "gasp",
            "gen_ai.agent.name": node,
            "gen_ai.request.model": self._model,
            "gen_ai.response.model": f"{self._model}@{generation.policy[:NAME_DIGITS]}",
            "gen_ai.request.choice.count": generation.count,
            "gen_ai.request.seed": generation.seed,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.usage.input_tokens": len(rollouts.prompt),
            "gen_ai.usage.output_tokens": generation.length,
            "gen_ai.response.finish_reasons": ["length" if cut else "stop" for cut in full],
        }


def _shown(fact: Fact) -> Attributes:
    return {f"gasp.{name}": value for name, value in fact.model_dump(include=FIELDS, exclude_none=True).items()}


def _digest(event: Event, salt: str) -> str:
    """Hash and time: equal runs have equal hashes, but differ by time."""
    return sha256(f"{salt} {event.hash} {event.time.isoformat()}".encode()).hexdigest()


def _nanoseconds(event: Event) -> int:
    return (event.time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
