"""Question sets, one source a file."""
