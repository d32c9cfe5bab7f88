"""Runs untrusted programs in Docker containers."""

from events.process.startup import begin_command

begin_command()
