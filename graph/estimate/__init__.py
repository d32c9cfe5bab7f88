"""Estimates before a run: cost, memory, tokens, and warnings."""
