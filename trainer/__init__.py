"""The learner: replays the log and updates the weights."""

from events.beginning import begin_command

begin_command()
