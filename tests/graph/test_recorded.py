"""Recorded nodes: one append an execution, no second run of what is recorded, and kill -9 at random moments changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import operator
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from structlog.contextvars import get_contextvars

from events.facts.errors import Conflict, InDoubt
from events.facts.fact import Fact
from events.facts.log import Event, Log
from events.facts.types import GoalpostAdded
from events.stores import open_log
from events.stores.memory import MemoryLog
from graph.play.recorded import recorded
from tests.support.paths import ROOT
from tests.support.recorded_graphs import StreamState, fold

KILLS = 12
"""In every case, at least."""
KILL_MOMENTS = ("working", "unrecorded", "untold")
"""An execution was at work; its answer was not in the log yet; it was, and the node had not been told."""
KILLS_PER_MOMENT = 3
"""Kills at each of these moments, in every case, at least."""
NodeKey = tuple[str, str]
"""Stream and key."""


class GraphProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, *what: str) -> int:
        self._process.stdin.write(" ".join(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ended(self) -> int:
        """How the play ended; waits for it."""
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def graph_process() -> Iterator[GraphProcess]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.recorded_graphs"],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        yield GraphProcess(process)
        process.stdin.close()


class GraphScenario:
    """A log that plays are killed over, their journal, and what the two said after each of them."""

    def __init__(self, graph_process: GraphProcess, where: str, journal: Path, *what: str) -> None:
        self._player = graph_process
        self._journal = journal
        self._what = (where, str(journal), *what)
        self.log = open_log(where, create=True)
        self.events: list[Event] = []
        self.begun: list[NodeKey] = []
        self.recorded: dict[NodeKey, list[Event]] = {}
        self.kills: Counter[str] = Counter()
        journal.touch()

    def play(self, grown: int | None = None, delay: float = 0.0) -> bool:
        """Play on to the end, or kill it `delay` seconds after the journal grew by so many bytes. True if it came to the end."""
        written = self._journal.stat().st_size
        pid = self._player.start(*self._what)
        if grown is not None:
            while self._journal.stat().st_size < written + grown and alive(pid):
                time.sleep(0.0005)
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = self._player.ended()
        assert status in {0, -signal.SIGKILL}
        self._look(self._journal.read_text()[written:].splitlines(), killed=status != 0)
        return status == 0

    def _look(self, lines: list[str], *, killed: bool) -> None:
        words = [sequence_of.split() for sequence_of in lines]
        began, worked, told = ({(s, v) for word, s, v in words if word == which} for which in ("began", "worked", "told"))
        assert not began & self.recorded.keys(), "a recorded answer was worked out again"
        self.begun = [*dict.fromkeys([*self.begun, *sorted(began)])]
        before, self.events = self.events, list(self.log.read())
        assert self.events[: len(before)] == before
        self.recorded = {execution: answer for execution in self.begun if (answer := self.log.recorded(*execution)) is not None}
        assert told <= self.recorded.keys(), "an answer that a node was told is lost"
        self.kills += Counter(
            all=killed,
            working=killed and bool(began - worked),
            unrecorded=killed and bool(worked - self.recorded.keys()),
            untold=killed and bool((worked & self.recorded.keys()) - told),
        )

    def check(self) -> None:
        """Every event belongs to one execution, and every execution saw what is recorded."""
        assert self.log.verify() is None
        assert set(self.begun) == self.recorded.keys()
        assert sorted(event.position for answer in self.recorded.values() for event in answer) == [
            event.position for event in self.events
        ]
        for event in self.events:
            for stream, answers in json.loads(self.log.get(event.fact.blob)).items():
                assert answers == [other.fact.question for other in self.events if other.stream == stream][: len(answers)]

    def chains(self) -> dict[str, list[str]]:
        return {stream: [e.hash for e in self.events if e.stream == stream] for stream in {e.stream for e in self.events}}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def scenarios(
    graph_process: GraphProcess, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., GraphScenario]]:
    made: list[GraphScenario] = []

    def make(store: str, shape: str, luck: str) -> GraphScenario:
        name = f"{shape}_{luck}_{len(made)}"
        where = str(tmp_path / f"{name}.sqlite")
        if store == "postgres":
            where = f"{request.getfixturevalue('postgres')}?run=recorded_{name}"
        made.append(GraphScenario(graph_process, where, tmp_path / f"{name}.journal", shape, luck))
        return made[-1]

    yield make
    for scene in made:
        scene.log.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "shape", "luck"),
    [
        ("sqlite", "fan", "even"),
        ("sqlite", "nested", "even"),
        ("sqlite", "branches", "even"),
        ("sqlite", "nested", "luck"),
        ("postgres", "fan", "luck"),
    ],
)
def test_kill_9_at_random_moments_loses_nothing_and_doubles_nothing(scenarios, store, shape, luck):
    chance = random.Random(f"{store} {shape} {luck}")
    undisturbed = scenarios(store, shape, luck)
    assert undisturbed.play()
    undisturbed.check()
    kills: Counter[str] = Counter()
    while kills["all"] < KILLS or min(kills[moment] for moment in KILL_MOMENTS) < KILLS_PER_MOMENT:
        scene = scenarios(store, shape, luck)
        while not scene.play(chance.randint(0, 400), chance.uniform(0, 0.008)):
            pass
        scene.check()
        kills += scene.kills
        if luck == "even":
            assert scene.chains() == undisturbed.chains()
        finished = scene.events
        assert scene.play()
        assert scene.events == finished


@dataclass
class LogContext:
    log: Log


class State(TypedDict):
    progress: StreamState
    others: Annotated[list[StreamState], operator.add]


def spoken_fact(word: str) -> GoalpostAdded:
    return GoalpostAdded(question=word, blob="0" * 64, source="test")


def speaking_node(*words: str, name: str = "speaker", into: str | None = None) -> Callable[..., Any]:
    """A recorded node that says these words; `executions` counts how often it is asked."""

    async def speak(state: State, runtime: Runtime[LogContext]) -> list[Fact]:
        node.executions.append(get_contextvars())
        return [spoken_fact(word) for word in words]

    speak.__name__ = name
    node = recorded("progress", fold, into=into)(speak)
    node.executions = []
    return node


def sequence_of(*nodes: Callable[..., Any]) -> Any:
    graph = StateGraph(State, context_schema=LogContext)
    graph.add_sequence([(f"node {place}", node) for place, node in enumerate(nodes)])
    graph.add_edge(START, "node 0")
    return graph.compile()


START_STATE = {"progress": StreamState(stream="a")}


async def test_what_a_node_says_is_appended_and_folded(log):
    final = await sequence_of(speaking_node("1", "2"), speaking_node("3")).ainvoke(START_STATE, context=LogContext(log))
    assert final["progress"] == StreamState(stream="a", version=3, answers=("1", "2", "3"))
    assert [(event.version, event.causation) for event in log.read("a")] == [(1, None), (2, None), (3, 2)]


async def test_a_recorded_answer_is_told_without_running_the_node_again(log):
    await sequence_of(speaking_node("1"), speaking_node("2")).ainvoke(START_STATE, context=LogContext(log))
    again = speaking_node("something else")
    final = await sequence_of(again, again, speaking_node("3")).ainvoke(START_STATE, context=LogContext(log))
    assert again.executions == []
    assert final["progress"].answers == ("1", "2", "3")
    assert [event.fact.question for event in log.read("a")] == ["1", "2", "3"]


async def test_every_node_execution_of_a_loop_is_its_own():
    log, node = MemoryLog(), speaking_node("1")
    await sequence_of(node, node, node).ainvoke(START_STATE, context=LogContext(log))
    assert len(node.executions) == 3
    assert [len(log.recorded("a", f"speaker@{version}")) for version in range(3)] == [1, 1, 1]


async def test_a_node_with_nothing_to_say_is_remembered_too():
    log, silent = MemoryLog(), speaking_node()
    for _ in range(2):
        assert (await sequence_of(silent).ainvoke(START_STATE, context=LogContext(log)))["progress"] == START_STATE["progress"]
    assert len(silent.executions) == 1


async def test_an_error_in_a_node_appends_nothing(log):
    async def fails(state: State, runtime: Runtime[LogContext]) -> list[Fact]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await sequence_of(speaking_node("1"), recorded("progress", fold)(fails)).ainvoke(START_STATE, context=LogContext(log))
    assert log.head().position == 1


async def test_another_writer_in_the_stream_is_an_error(log):
    log.append("a", [spoken_fact("uninvited")])
    with pytest.raises(Conflict):
        await sequence_of(speaking_node("1")).ainvoke(START_STATE, context=LogContext(log))
    assert log.version("a") == 1


class InDoubtLog(MemoryLog):
    """Appends, and loses the first answer on the way back."""

    lost = False

    def submit(self, *args, **kwargs):
        appended = super().submit(*args, **kwargs)
        if not self.lost:
            self.lost = True
            raise InDoubt("the connection is gone")
        return appended


async def test_an_answer_lost_behind_the_commit_is_told_to_whoever_asks_again():
    log, node = InDoubtLog(), speaking_node("1")
    with pytest.raises(InDoubt):
        await sequence_of(node).ainvoke(START_STATE, context=LogContext(log))
    assert (await sequence_of(node).ainvoke(START_STATE, context=LogContext(log)))["progress"].answers == ("1",)
    assert len(node.executions) == log.version("a") == 1


def fan(node: Callable[..., Any], *streams: str) -> Any:
    graph = StateGraph(State, context_schema=LogContext)
    graph.add_node("node", node)
    graph.add_conditional_edges(
        START, lambda _: [Send("node", {"progress": StreamState(stream=stream)}) for stream in streams], ["node"]
    )
    return graph.compile()


async def test_nodes_behind_a_send_have_streams_of_their_own_and_are_gathered_in_order():
    log, node = MemoryLog(), speaking_node("1", into="others")
    final = await fan(node, "a", "b", "c").ainvoke(START_STATE, context=LogContext(log))
    assert final["others"] == [StreamState(stream=stream, version=1, answers=("1",)) for stream in "abc"]
    assert log.head().position == 3


async def test_the_same_node_execution_twice_at_once_has_one_answer():
    log, ways = MemoryLog(), iter("12")

    async def slow(state: State, runtime: Runtime[LogContext]) -> list[Fact]:
        answer = next(ways)
        await asyncio.sleep(0.01)
        return [spoken_fact(answer)]

    final = await fan(recorded("progress", fold, into="others")(slow), "a", "a").ainvoke(START_STATE, context=LogContext(log))
    assert next(ways, None) is None
    assert final["others"] == [StreamState(stream="a", version=1, answers=("1",))] * 2
    assert log.head().position == 1


async def test_different_nodes_side_by_side_in_one_stream_are_an_error():
    graph = StateGraph(State, context_schema=LogContext)
    for name in ("left", "right"):
        graph.add_node(name, speaking_node("1", name=name, into="others"))
        graph.add_edge(START, name)
    with pytest.raises(Conflict):
        await graph.compile().ainvoke(START_STATE, context=LogContext(MemoryLog()))


async def test_operational_logs_know_stream_and_node():
    node = speaking_node("1", name="solver")
    await sequence_of(node).ainvoke(START_STATE, context=LogContext(MemoryLog()))
    assert node.executions == [{"progress": "a", "node": "solver"}]
    assert get_contextvars() == {}
