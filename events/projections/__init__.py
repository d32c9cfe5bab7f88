"""Projections: read models folded from a log."""
