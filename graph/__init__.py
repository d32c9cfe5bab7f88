"""Play: the state machine of an episode, recipes, settings, and the main command `python -m graph.run`."""

from events.process.startup import begin_command

begin_command()
