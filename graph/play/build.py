"""The graph: its nodes and the steps between them. It reads like the diagram in the README, which is made from GASP's."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.play import nodes
from graph.play.context import NodeContext
from graph.play.edges import SUCCESSORS, route
from graph.play.state import PlayState
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import PlaySettings

Graph = CompiledStateGraph[PlayState, NodeContext, PlayState, PlayState]


def build(settings: PlaySettings, course: EpisodePlan) -> Graph:
    """The compiled state machine. No checkpointer: the log is the only durable state."""
    graph = StateGraph(PlayState, context_schema=NodeContext)
    graph.add_node("goalpost_gap", nodes.goalpost_gap)
    graph.add_node("solver", nodes.solver)
    graph.add_node("verifier", nodes.verifier)
    if "easy" in course.guided:
        graph.add_node("teacher_easy", nodes.teacher_easy)
    if "hard" in course.guided:
        graph.add_node("teacher_hard", nodes.teacher_hard)
    if course.references:
        graph.add_node("teacher_open", nodes.teacher_open)
    for node in (START, *graph.nodes):
        graph.add_conditional_edges(
            node, route(settings, course), [step for step in SUCCESSORS[node] if step in {*graph.nodes, END}]
        )
    return graph.compile()
