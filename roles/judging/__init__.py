"""Runs programs on the tests of a question, and checks proposals for safety, worth and novelty."""
