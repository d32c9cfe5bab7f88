"""Runs untrusted programs in Docker containers. Knows nothing of models."""

from events.beginning import begin_command

begin_command()
