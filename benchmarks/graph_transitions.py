"""Transitions a second of a LangGraph graph: recorded in the log, not recorded, and with LangGraph's own checkpointer.

All run the same loop of five nodes with the same state and facts, many episodes at once on one event loop; nodes do no work.
Log and checkpointer write SQLite with synchronous=FULL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from benchmarks.rounds import Claim, interleaved, rate
from events.facts.fact import Fact
from events.facts.log import Event, Log
from events.facts.types import GapMeasured
from events.facts.values import QuestionId, Value
from events.stores import open_log
from graph.play.recorded import recorded

NODES = ("goalpost_gap", "teacher_easy", "teacher_hard", "solver", "verifier")
EPISODES = 64
MAX_SLOWDOWN = 1.5


class CountedEpisode(Value):
    """State of an episode: its stream, and the events appended so far."""

    stream: str
    version: int = 0


class LoopState(TypedDict):
    """State of the graph."""

    episode: CountedEpisode


@dataclass
class LoopContext:
    """The context of the graph."""

    log: Log


def fold(episode: CountedEpisode, events: Sequence[Event]) -> CountedEpisode:
    """The episode after more events."""
    return CountedEpisode(stream=episode.stream, version=episode.version + len(events))


def fact_of(episode: CountedEpisode) -> Fact:
    """The fact that every node appends."""
    return GapMeasured(question=QuestionId(episode.stream), successes=episode.version, attempts=10, best_share=0.5, gap=1.0)


def recorded_node(name: str) -> Any:
    """A node of this name that is recorded."""

    async def answer(state: LoopState, runtime: Runtime[LoopContext]) -> list[Fact]:
        return [fact_of(state["episode"])]

    answer.__name__ = name
    return recorded("episode", fold)(answer)


async def unrecorded_node(state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, CountedEpisode]:
    """The same node, not recorded."""
    episode = state["episode"]
    fact_of(episode)
    return {"episode": CountedEpisode(stream=episode.stream, version=episode.version + 1)}


def compiled_loop(steps: int, *, record: bool, saver: BaseCheckpointSaver[Any] | None = None) -> Any:
    """The loop, which ends after so many steps."""
    graph = StateGraph(LoopState, context_schema=LoopContext)
    graph.add_edge(START, NODES[0])
    for name, following in zip(NODES, (*NODES[1:], NODES[0]), strict=True):
        graph.add_node(name, recorded_node(name) if record else unrecorded_node)
        graph.add_conditional_edges(
            name, lambda state, following=following: END if state["episode"].version >= steps else following, [following, END]
        )
    return graph.compile(checkpointer=saver)


def transition_claims(folder: Path, *, rounds: int, steps: int) -> list[Claim]:
    """The recorded graph against the others, in episodes of `steps` transitions; files are made in `folder`."""
    with closing(open_log(folder / "episodes.sqlite", create=True)) as log:

        def measure(play: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], float]:
            return lambda: rate(EPISODES * steps, lambda: asyncio.run(play()))

        async def run(*, record: bool, saver: BaseCheckpointSaver[Any] | None = None) -> None:
            graph, context = compiled_loop(steps, record=record, saver=saver), LoopContext(log)
            states = [LoopState(episode=CountedEpisode(stream=f"episode/{uuid4()}")) for _ in range(EPISODES)]
            threads = [{"configurable": {"thread_id": state["episode"].stream}} for state in states]
            await asyncio.gather(*(graph.ainvoke(*each, context=context) for each in zip(states, threads, strict=True)))

        async def checkpointed() -> None:
            async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")) as saver:
                await run(record=False, saver=saver)

        plays = {"recorded": lambda: run(record=True), "bare": lambda: run(record=False), "checkpointed": checkpointed}
        rates = interleaved({name: measure(play) for name, play in plays.items()}, rounds)
    what = f"transitions of a recorded graph, {EPISODES} episodes"
    return [
        Claim(what, rates["recorded"], "the same graph, not recorded", rates["bare"], most=MAX_SLOWDOWN),
        Claim(what, rates["recorded"], "its SQLite checkpointer", rates["checkpointed"]),
    ]
