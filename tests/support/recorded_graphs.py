"""Plays small graphs of recorded nodes, each in a process of its own that is there at once; the crash tests kill it.

python -m tests.support.recorded_graphs, then a line `LOG JOURNAL SHAPE LUCK` on standard input for every play

A play is forked off here, where everything is imported already. It writes what it does into the journal: `began` and `worked`
around the work of an execution, `told` when the append has an outcome. With LUCK its answers are different each time.
"""

from __future__ import annotations

import asyncio
import gc
import json
import operator
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

import events.stores.postgres  # noqa: F401  # before the fork
from events.facts.fact import Fact
from events.facts.log import Event, Log
from events.facts.types import GoalpostAdded
from events.facts.values import QuestionId, Value
from events.stores import open_log
from events.stores.memory import MemoryLog
from graph.play.recorded import recorded

PAUSE_S = 0.004
"""How long work takes at most, and how long an append is held up, before and, twice as long, after."""


class StreamState(Value):
    stream: str
    version: int = 0
    answers: tuple[str, ...] = ()

    @property
    def luck(self) -> int:
        """The last answer as a number; it decides where to go."""
        return int(self.answers[-1], 16)


def fold(progress: StreamState, events: Sequence[Event]) -> StreamState:
    answers = (*progress.answers, *(event.fact.question for event in events if isinstance(event.fact, GoalpostAdded)))
    return StreamState(stream=progress.stream, version=len(answers), answers=answers)


class NodeJournal:
    """Lines that a kill cannot take back."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def tell(self, word: str, stream: str, execution: str) -> None:
        os.write(self._file, f"{word} {stream} {execution}\n".encode())


@dataclass
class GraphContext:
    log: Log | SlowLog
    journal: NodeJournal
    luck: bool

    async def work(self, node: str, progress: StreamState, *others: StreamState) -> list[Fact]:
        """Answer with one to three facts, which follow from what is seen and from luck; say in a blob what was seen."""
        execution = f"{node}@{progress.version}"
        self.journal.tell("began", progress.stream, execution)
        await asyncio.sleep(random.uniform(0, PAUSE_S))
        seen = json.dumps({each.stream: each.answers for each in (progress, *others)}, sort_keys=True).encode()
        chance = random.Random(os.urandom(8) if self.luck else progress.stream.encode() + seen)
        blob = self.log.put(seen)
        answers = [QuestionId(f"{chance.getrandbits(64):016x}") for _ in range(chance.randint(1, 3))]
        self.journal.tell("worked", progress.stream, execution)
        return [GoalpostAdded(question=answer, blob=blob, source=node) for answer in answers]


class SlowLog:
    """A log whose appends wait before they are made, and again before their outcome is known."""

    def __init__(self, log: Log, journal: NodeJournal) -> None:
        self._log = log
        self._journal = journal
        self._pool = ThreadPoolExecutor(8)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def submit(self, stream: str, facts: Sequence[Fact], **details: Any) -> Future[list[Event]]:
        return self._pool.submit(self._append, stream, facts, details)

    def _append(self, stream: str, facts: Sequence[Fact], details: dict[str, Any]) -> list[Event]:
        time.sleep(random.uniform(0, PAUSE_S))
        appended = self._log.append(stream, facts, **details)
        time.sleep(random.uniform(0, 2 * PAUSE_S))
        self._journal.tell("told", stream, details["key"])
        return appended


class State(TypedDict, total=False):
    progress: StreamState
    left: StreamState
    right: StreamState
    job: StreamState
    jobs: Annotated[list[StreamState], operator.add]


class Jobs(TypedDict):
    """What a graph behind a `Send` gives back."""

    jobs: Annotated[list[StreamState], operator.add]


@recorded("progress", fold)
async def plan(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    return await runtime.context.work("plan", state["progress"])


@recorded("progress", fold)
async def meet(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    """See everything that was done side by side."""
    sides = [state[side] for side in ("left", "right") if side in state]  # type: ignore[literal-required]
    return await runtime.context.work("meet", state["progress"], *sides, *state.get("jobs", []))


@recorded("left", fold)
async def left(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    return await runtime.context.work("left", state["left"])


@recorded("right", fold)
async def right(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    return await runtime.context.work("right", state["right"])


@recorded("job", fold)
async def attempt(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    """Try a job, once or more often."""
    return await runtime.context.work("attempt", state["job"])


@recorded("job", fold, into="jobs")
async def worker(state: State, runtime: Runtime[GraphContext]) -> list[Fact]:
    """Do a job, or end one that was tried."""
    return await runtime.context.work("worker", state["job"])


def jobs(state: State) -> list[Send]:
    """Three to six jobs, with streams named after the round."""
    progress = state["progress"]
    return [
        Send("worker", {"job": StreamState(stream=f"job/{progress.version}/{number}")})
        for number in range(3 + progress.luck % 4)
    ]


def compile_graph(name: str) -> Any:
    """`fan`: rounds of jobs. `nested`: jobs are graphs with a loop. `branches`: two loops side by side."""
    graph = StateGraph(State, context_schema=GraphContext)
    graph.add_node("meet", meet, defer=name == "branches")
    if name == "branches":
        for side, node in (("left", left), ("right", right)):
            graph.add_node(side, node)
            graph.add_edge(START, side)
            graph.add_conditional_edges(
                side, lambda state, side=side: side if state[side].version < 30 else "meet", [side, "meet"]
            )
        graph.add_edge("meet", END)
        return graph.compile()
    graph.add_node("plan", plan)
    graph.add_node("worker", worker if name == "fan" else job())
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", jobs, ["worker"])
    graph.add_edge("worker", "meet")
    graph.add_conditional_edges("meet", lambda state: "plan" if state["progress"].version < 24 else END, ["plan", END])
    return graph.compile()


def job() -> Any:
    """A graph behind a `Send`."""
    graph = StateGraph(State, context_schema=GraphContext, output_schema=Jobs)
    graph.add_node("attempt", attempt)
    graph.add_node("worker", worker)
    graph.add_edge(START, "attempt")
    graph.add_conditional_edges("attempt", lambda state: "attempt" if state["job"].luck % 2 else "worker")
    graph.add_edge("worker", END)
    return graph.compile()


async def play(name: str, desk: GraphContext) -> None:
    states = {channel: StreamState(stream=channel) for channel in ("progress", "left", "right")}
    await compile_graph(name).ainvoke(states, context=desk)


def main() -> None:
    """Fork a play for every line; say its process id, and how it ended."""
    # LangGraph imports some of what it needs when it plays for the first time.
    asyncio.run(play("fan", GraphContext(MemoryLog(), NodeJournal(os.devnull), luck=False)))
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            where, path, name, luck = line.split()
            journal = NodeJournal(path)
            asyncio.run(play(name, GraphContext(SlowLog(open_log(where), journal), journal, luck == "luck")))
            os._exit(0)  # tidying up would take longer than playing
        report(child)
        report(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def report(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
