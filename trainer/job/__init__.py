"""A training job: what is learned, from which logs, in which order."""
