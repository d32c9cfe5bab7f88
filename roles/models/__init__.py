"""Implementations, one a file."""
