"""The browser's view of runs: `python -m events.web RUN...` serves pages that are read off logs and their indexes.

Law: it can only read. Logs are held by their reading half and opened so that the database itself refuses writes; the one
thing written is the cache beside a log (`events.index`). Whatever a model wrote is escaped; pages need nothing from outside.
"""
