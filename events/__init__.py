"""The event log: facts, values, stores, projections. Imports no other package of the project."""

from events.process.startup import begin_command

begin_command()
