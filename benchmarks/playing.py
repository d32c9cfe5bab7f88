"""Transitions a second of a LangGraph graph: recorded in the log, not recorded, and with LangGraph's own checkpointer.

Law: the same loop of five nodes, the same state and the same facts in every case, many walks at once on one event loop;
nodes do no work, so that only what a transition costs is measured. Log and checkpointer write SQLite with synchronous=FULL.
"""

from __future__ import annotations

import asyncio
import time
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

from benchmarks.rounds import Claim, interleaved
from events.facts.log import Event, Log
from events.facts.types import Fact, GapMeasured
from events.facts.values import QuestionId, Value
from events.stores import open_log
from graph.play.recorded import recorded

NODES = ("goalpost_gap", "teacher_easy", "teacher_hard", "solver", "verifier")
EPISODES = 64
MAX_SLOWDOWN = 1.5


class CountedEpisode(Value):
    """What is folded."""

    stream: str
    version: int = 0


class LoopState(TypedDict):
    """Of the graph."""

    walk: CountedEpisode


@dataclass
class LoopContext:
    """The context of the graph."""

    log: Log


def fold(walk: CountedEpisode, told: Sequence[Event]) -> CountedEpisode:
    """The walk after more events."""
    return CountedEpisode(stream=walk.stream, version=walk.version + len(told))


def fact_of(walk: CountedEpisode) -> Fact:
    """What every node answers."""
    return GapMeasured(question=QuestionId(walk.stream), successes=walk.version, attempts=10, best_share=0.5, gap=1.0)


def recorded_node(name: str) -> Any:
    """A node of this name that is recorded."""

    async def answer(state: LoopState, runtime: Runtime[LoopContext]) -> list[Fact]:
        return [fact_of(state["walk"])]

    answer.__name__ = name
    return recorded("walk", fold)(answer)


async def unrecorded_node(state: LoopState, runtime: Runtime[LoopContext]) -> dict[str, CountedEpisode]:
    """The same node, not recorded."""
    walk = state["walk"]
    fact_of(walk)
    return {"walk": CountedEpisode(stream=walk.stream, version=walk.version + 1)}


def compiled_loop(steps: int, *, record: bool, saver: BaseCheckpointSaver[Any] | None = None) -> Any:
    """The loop, which ends after so many steps."""
    graph = StateGraph(LoopState, context_schema=LoopContext)
    graph.add_edge(START, NODES[0])
    for name, following in zip(NODES, (*NODES[1:], NODES[0]), strict=True):
        graph.add_node(name, recorded_node(name) if record else unrecorded_node)
        graph.add_conditional_edges(
            name, lambda state, following=following: END if state["walk"].version >= steps else following, [following, END]
        )
    return graph.compile(checkpointer=saver)


def transition_claims(folder: Path, *, rounds: int, steps: int) -> list[Claim]:
    """The recorded graph against the others.

    Args:
        folder: where files may be made.
        rounds: how often each is measured.
        steps: transitions of every walk.
    """
    with closing(open_log(folder / "walks.sqlite", create=True)) as log:

        def measure(walk: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], float]:
            def rate() -> float:
                began = time.perf_counter()
                asyncio.run(walk())
                return EPISODES * steps / (time.perf_counter() - began)

            return rate

        async def play(*, record: bool, saver: BaseCheckpointSaver[Any] | None = None) -> None:
            graph, desk = compiled_loop(steps, record=record, saver=saver), LoopContext(log)
            names = [f"episode/{uuid4()}" for _ in range(EPISODES)]
            await asyncio.gather(
                *(
                    graph.ainvoke({"walk": CountedEpisode(stream=name)}, {"configurable": {"thread_id": name}}, context=desk)
                    for name in names
                )
            )

        async def checkpointed() -> None:
            async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")) as saver:
                await play(record=False, saver=saver)

        found = interleaved(
            {
                "recorded": measure(lambda: play(record=True)),
                "bare": measure(lambda: play(record=False)),
                "checkpointed": measure(checkpointed),
            },
            rounds,
        )
    what = f"transitions of a recorded graph, {EPISODES} walks"
    return [
        Claim(what, found["recorded"], "the same graph, not recorded", found["bare"], most=MAX_SLOWDOWN),
        Claim(what, found["recorded"], "its SQLite checkpointer", found["checkpointed"]),
    ]
