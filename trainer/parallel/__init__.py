"""Data parallelism: several processes make one update together."""
