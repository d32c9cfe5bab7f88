"""The learner: replays the log and updates the weights."""

from events.process.startup import begin_command

begin_command()
