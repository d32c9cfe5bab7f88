"""Event sourcing: kinds of events, their values, the log's interface, and reading it."""
