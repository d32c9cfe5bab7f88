"""The commands of `python -m events`, a module for each kind of work.

Law: a command asks the log and prints; what it prints first passes `events.text.safe_text` or is JSON in ASCII, so that
nothing a model wrote can change a terminal. Answers go to stdout, one a line; notes and progress to stderr.
"""
