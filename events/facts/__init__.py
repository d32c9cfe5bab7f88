"""Event kinds, the values in them, the log's interface, and following a log."""
