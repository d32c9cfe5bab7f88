"""Subscription to appends in PostgreSQL by LISTEN, on a connection of its own.

A notification is only a hint, so a lost connection counts as one: it may have carried some.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from events.stores.postgres_errors import is_connection_lost, translate_errors
from events.stores.postgres_location import PostgresLocation


class PostgresSubscription:
    """A `Subscription` to a log in PostgreSQL."""

    def __init__(self, location: PostgresLocation) -> None:
        self._location = location
        self._db = self._listen()

    def _listen(self) -> psycopg.Connection:
        db = self._location.connect()
        db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._location.channel)))
        return db

    def wait(self, seconds: float) -> bool:
        """See `events.facts.log.Subscription.wait`."""
        with translate_errors(self._location.name):
            try:
                return any(True for _ in self._db.notifies(timeout=seconds, stop_after=1))
            except psycopg.OperationalError as error:
                if not is_connection_lost(error):
                    raise
        self._db.close()
        self._db = self._listen()
        return True

    def close(self) -> None:
        """See `events.facts.log.Subscription.close`."""
        self._db.close()
