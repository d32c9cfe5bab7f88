"""Who moves when: state, nodes, edges, recipes, and the main command `python -m graph.run`."""

from events.beginning import begin_command

begin_command()
