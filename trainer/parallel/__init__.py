"""Several processes that make one update."""
