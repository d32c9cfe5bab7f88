"""Runs untrusted programs in Docker containers. Knows nothing of models."""
