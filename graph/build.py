"""The graph: five nodes and the steps between them. It reads like the diagram in the README, which is made from it."""

from __future__ import annotations

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph import nodes
from graph.config import PlaySettings
from graph.edges import NEXT, route
from graph.recipe import Course
from graph.state import PlayState
from graph.table import Table

Graph = CompiledStateGraph[PlayState, Table, PlayState, PlayState]


def build(settings: PlaySettings, course: Course) -> Graph:
    """The compiled state machine. No checkpointer: the log is the only durable state."""
    graph = StateGraph(PlayState, context_schema=Table)
    graph.add_node("goalpost_gap", nodes.goalpost_gap)
    graph.add_node("teacher_easy", nodes.teacher_easy)
    graph.add_node("teacher_hard", nodes.teacher_hard)
    graph.add_node("solver", nodes.solver)
    graph.add_node("verifier", nodes.verifier)
    for node in (START, "goalpost_gap", "teacher_easy", "teacher_hard", "solver", "verifier"):
        graph.add_conditional_edges(node, route(settings, course), list(NEXT[node]))
    return graph.compile()
