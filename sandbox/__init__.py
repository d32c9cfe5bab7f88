"""Runs untrusted programs in Docker containers. Knows nothing of models."""

from events.process.startup import begin_command

begin_command()
