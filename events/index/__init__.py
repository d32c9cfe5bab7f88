"""The index of a log: a database beside it that says where things are, so that no reader has to walk a million events.

Law: an index is a cache. It is made from the log alone, follows it, is never believed where it comes from another log, and
deleting it is always safe. What it points to is read from the log, which it never writes.
"""
