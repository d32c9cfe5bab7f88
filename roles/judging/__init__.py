"""Runs programs on the tests of a question, and examines proposals for safety, worth and novelty."""
