"""The commands of `python -m events`, a module for each kind of work.

Guarantees: whatever a model wrote is cleaned before it is printed, or is JSON in ASCII, so that it cannot control a terminal.
Results go to stdout, notes and progress to stderr.
"""
