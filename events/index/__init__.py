"""The index of a log: a database beside it that says where things are, so that no reader scans a million events.

Guarantees: it is a cache, made from the log alone. It follows the log, is made anew where it comes from another log, and may
always be deleted. The log is never written.
"""
