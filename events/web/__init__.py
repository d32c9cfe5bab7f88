"""The viewer: `python -m events.web RUN...` serves pages that are read from logs and their indexes.

Guarantees: logs are opened read-only, and the database itself refuses writes; only caches beside a log are written. Whatever a
model wrote is escaped, and pages load nothing from elsewhere.
"""
