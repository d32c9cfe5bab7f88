"""What `python -m events.trace` shows: a run, a goalpost, a question, an attempt, and any of them while it changes.

Law: readers of the log and of its index. What a model or the outside wrote is cleaned before it is shown, and a mark or a word
says whatever a colour says.
"""
