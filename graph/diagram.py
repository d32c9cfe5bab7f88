"""Writes the README's Mermaid diagram from the compiled graph: `python -m graph.diagram README.md`.

It shows how a fresh episode goes; a resumed one may enter at any node.
"""

from __future__ import annotations

import sys
from pathlib import Path

from events.reports.documents import replace_generated
from graph.play.build import build
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import PlaySettings

FIRST_NODE = "solver"
"""Where a fresh episode starts."""


def mermaid() -> str:
    """The graph as a Mermaid flow chart."""
    drawn = build(PlaySettings(), EpisodePlan()).get_graph()
    names = {"__start__": "start([start])", "__end__": "finish([end])"}
    steps = sorted(
        (edge.source, edge.target) for edge in drawn.edges if edge.source != "__start__" or edge.target == FIRST_NODE
    )
    lines = [f"    {names.get(source, source)} --> {names.get(target, target)}" for source, target in steps]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(replace_generated(readme.read_text(), "graph", mermaid()))
