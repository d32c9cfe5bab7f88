"""Play: the state machine of an episode, recipes, settings, and the main command `python -m graph.run`."""

from events.process.startup import begin_command

# Here, because `python -m` imports the package first: so even an early Ctrl-C ends a command without a traceback.
begin_command()
