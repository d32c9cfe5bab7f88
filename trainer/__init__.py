"""The learner: replays the log and updates the weights."""

from events.process.startup import begin_command

# Here, because `python -m` imports the package first: so even an early Ctrl-C ends a command without a traceback.
begin_command()
