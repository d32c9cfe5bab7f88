"""Hears appends to a log in PostgreSQL by LISTEN, on a connection of its own.

Law: a notification is only a hint, so a lost connection is one as well: it may have carried some. It reads no events.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from events.stores.postgres_errors import is_connection_lost, translate_errors
from events.stores.postgres_location import PostgresLocation


class PostgresSubscription:
    """A `Subscription` on a place."""

    def __init__(self, place: PostgresLocation) -> None:
        self._place = place
        self._db = self._listen()

    def _listen(self) -> psycopg.Connection:
        db = self._place.connect()
        db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._place.channel)))
        return db

    def wait(self, seconds: float) -> bool:
        """See `events.facts.log.Subscription.wait`."""
        with translate_errors(self._place.name):
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
