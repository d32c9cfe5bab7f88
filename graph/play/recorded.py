"""`@recorded`: a LangGraph node whose answer is facts, and whose every visit is in the log exactly once.

The node gets a folded state of one stream and returns facts; the decorator appends them and returns the state with them
folded in. A visit is named by its node and the version of the stream that it starts from. What the log holds under that
name is the answer, and the node does not run again: after a crash, start the graph over, or fold and enter further on.

Law: a visit becomes real by its one append, under its name and at its version; a node that broke off has done nothing, and two
that play the same visit are told the same answer. Names come from the graph's own state, never from clocks or LangGraph's
ids. One stream has one visit at a time: nodes side by side, and everything behind a `Send`, have streams of their own. It
does not make the work itself happen once: between a model's answer and the append a crash costs that answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeVar

from langgraph.runtime import Runtime
from structlog.contextvars import bound_contextvars

from events.facts.log import Event, Log
from events.facts.types import Fact


class FoldedState(Protocol):
    """A pure function of the first `version` events of a stream."""

    @property
    def stream(self) -> str:
        """Where its facts are."""
        ...

    @property
    def version(self) -> int:
        """How many of them are folded in."""
        ...


FoldedT = TypeVar("FoldedT", bound=FoldedState)
StateT_contra = TypeVar("StateT_contra", bound=Mapping[str, Any], contravariant=True)
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


class Node(Protocol[StateT_contra, AnswerT_co]):
    """An async node of LangGraph's; the runtime's context has a `log`."""

    __name__: str

    def __call__(self, state: StateT_contra, runtime: Runtime[Any]) -> Awaitable[AnswerT_co]:
        """Visit the node."""
        ...


_observed: ContextVar[dict[str, dict[str, Any]]] = ContextVar("observed")


def observe(what: str, number: int, measures: Any) -> None:
    """Note what is no fact, such as what clocks said of the event with this version; kept on this visit's first event.

    It stays outside hashes. Nothing is kept where nobody visits a node.
    """
    if (kept := _observed.get(None)) is not None:
        kept.setdefault(what, {})[str(number)] = measures


def recorded(
    channel: str, fold: Callable[[FoldedT, Sequence[Event]], FoldedT], *, into: str | None = None
) -> Callable[[Node[StateT_contra, Sequence[Fact]]], Node[StateT_contra, dict[str, Any]]]:
    """Make a node out of a function that returns facts.

    Args:
        channel: where in the graph's state the folded state is; in operational logs, the name of its stream.
        fold: the folded state after more events of its stream.
        into: a list channel that gathers the folded states of nodes behind a `Send`; None writes `channel` again.
    """

    def decorate(node: Node[StateT_contra, Sequence[Fact]]) -> Node[StateT_contra, dict[str, Any]]:
        @wraps(node)
        async def visit(state: StateT_contra, runtime: Runtime[Any]) -> dict[str, Any]:
            before: FoldedT = state[channel]
            log: Log = runtime.context.log
            stream, key = before.stream, f"{node.__name__}@{before.version}"
            events = log.recorded(stream, key)
            if events is None:
                observed: dict[str, dict[str, Any]] = {}
                _observed.set(observed)
                with bound_contextvars(node=node.__name__, **{channel: stream}):
                    facts = await node(state, runtime)
                told = log.submit(
                    stream, facts, expected=before.version, causation=before.version or None, observed=observed, key=key
                )
                events = told.result() if told.done() else await asyncio.wrap_future(told)
            after = fold(before, events)
            return {channel: after} if into is None else {into: [after]}

        return visit

    return decorate
