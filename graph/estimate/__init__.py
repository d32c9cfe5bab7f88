"""Estimates before a run: tokens, memory, time and cost, and warnings. Plain arithmetic; nothing is measured or loaded."""
