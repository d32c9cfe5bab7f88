"""What `python -m events.trace` shows in a terminal: a run, a goalpost, a question or an attempt."""
