"""The event log: facts, values, stores, projections. Imports nothing of ours."""

from events.process.startup import begin_command

begin_command()
