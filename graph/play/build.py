"""Builds the LangGraph state machine of an episode. The README's diagram is drawn from it."""

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


def build(settings: PlaySettings, plan: EpisodePlan) -> Graph:
    """The compiled state machine. It has no checkpointer, since the log is the only durable state."""
    graph = StateGraph(PlayState, context_schema=NodeContext)
    graph.add_node("goalpost_gap", nodes.goalpost_gap)
    graph.add_node("solver", nodes.solver)
    graph.add_node("verifier", nodes.verifier)
    seats = {seat for stage in plan.stages for seat in (*stage.guided, *stage.seats("unguided"))}
    if "easy" in seats:
        graph.add_node("teacher_easy", nodes.teacher_easy)
    if "hard" in seats:
        graph.add_node("teacher_hard", nodes.teacher_hard)
    if "open" in seats:
        graph.add_node("teacher_open", nodes.teacher_open)
    for node in (START, *graph.nodes):
        graph.add_conditional_edges(
            node, route(settings, plan), [step for step in SUCCESSORS[node] if step in {*graph.nodes, END}]
        )
    return graph.compile()
