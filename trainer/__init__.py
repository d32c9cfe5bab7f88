"""The learner: replays the log and updates the weights."""
