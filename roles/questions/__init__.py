"""Question sets: benchmarks and files of one's own, one source a file."""
