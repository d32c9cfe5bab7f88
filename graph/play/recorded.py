"""`@recorded`: a LangGraph node that returns facts, and whose every execution is in the log exactly once.

The node gets the folded state of one stream and returns facts; the decorator appends them and returns the state with them
folded in. An execution is named by its node and the version of the stream that it starts from. If the log already holds events
under that name, they are the result and the node does not run again. So after a crash a graph can start over, or fold and enter
further on.

Guarantees:
- An execution takes effect by one append, under its name and at its version; of two that race, both get the same events.
- Names come from the graph's own state, never from clocks or from LangGraph's ids.

Not responsible for:
- Doing the work itself only once: a crash between a model's answer and the append loses that answer.
- Two executions at a time on one stream: parallel nodes, and everything behind a `Send`, need streams of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeVar

from langgraph.runtime import Runtime
from structlog.contextvars import bound_contextvars

from events.facts.fact import Fact
from events.facts.log import Event, Log


class FoldedState(Protocol):
    """A pure function of the first `version` events of a stream."""

    @property
    def stream(self) -> str:
        """The stream's name."""
        ...

    @property
    def version(self) -> int:
        """How many of its events are folded in."""
        ...


FoldedT = TypeVar("FoldedT", bound=FoldedState)
StateT_contra = TypeVar("StateT_contra", bound=Mapping[str, Any], contravariant=True)
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


class Node(Protocol[StateT_contra, AnswerT_co]):
    """An async LangGraph node; the runtime's context has a `log`."""

    __name__: str

    def __call__(self, state: StateT_contra, runtime: Runtime[Any]) -> Awaitable[AnswerT_co]:
        """Execute the node."""
        ...


_observed: ContextVar[dict[str, dict[str, Any]]] = ContextVar("observed")


def observe(what: str, number: int, measures: Any) -> None:
    """Attach JSON to the first event of the node execution that is going on, outside hashes; without one it is dropped."""
    if (observed := _observed.get(None)) is not None:
        observed.setdefault(what, {})[str(number)] = measures


def recorded(
    channel: str, fold: Callable[[FoldedT, Sequence[Event]], FoldedT], *, into: str | None = None
) -> Callable[[Node[StateT_contra, Sequence[Fact]]], Node[StateT_contra, dict[str, Any]]]:
    """Make a node out of a function that returns facts.

    Args:
        channel: key of the folded state in the graph's state, and of the stream's name in operational logs.
        fold: returns the folded state after more events of its stream.
        into: key of a list that gathers the folded states of nodes behind a `Send`; None writes `channel` again.
    """

    def decorate(node: Node[StateT_contra, Sequence[Fact]]) -> Node[StateT_contra, dict[str, Any]]:
        @wraps(node)
        async def execute(state: StateT_contra, runtime: Runtime[Any]) -> dict[str, Any]:
            before: FoldedT = state[channel]
            log: Log = runtime.context.log
            stream, key = before.stream, f"{node.__name__}@{before.version}"
            events = log.recorded(stream, key)
            if events is None:
                observed: dict[str, dict[str, Any]] = {}
                _observed.set(observed)
                with bound_contextvars(node=node.__name__, **{channel: stream}):
                    facts = await node(state, runtime)
                # Submitted and not appended, so that episodes which come here at the same time share a transaction.
                appended = log.submit(
                    stream, facts, expected=before.version, causation=before.version or None, observed=observed, key=key
                )
                events = appended.result() if appended.done() else await asyncio.wrap_future(appended)
            after = fold(before, events)
            return {channel: after} if into is None else {into: [after]}

        return execute

    return decorate
