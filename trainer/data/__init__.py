"""From the event log to training data."""
