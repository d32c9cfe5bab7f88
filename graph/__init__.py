"""Who moves when: state, nodes, edges, recipes, and the main command `python -m graph.run`."""

from events.process.startup import begin_command

begin_command()
