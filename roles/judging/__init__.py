"""Judging: how a completion is run on tests, and what a proposed program may contain."""
