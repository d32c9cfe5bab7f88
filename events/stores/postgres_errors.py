"""Translates errors of PostgreSQL into the project's, with a sentence that says what to do.

No sentence holds a URL, because a URL may hold a password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from events.facts.errors import LogCorrupt, LogError, LogUnreachable

_LOG_ERRORS: dict[type[psycopg.Error], str] = {
    errors.DiskFull: "The server's disk is full, so the log {name} took nothing of this append; free space and resume the run.",
    errors.ReadOnlySqlTransaction: "The server of the log {name} is read-only; connect to the primary, not to a standby.",
    errors.InsufficientPrivilege: "The log {name} may not be used ({error}); grant the user its schema.",
    errors.TooManyConnections: "The server of the log {name} takes no more connections; end some, or raise max_connections.",
    errors.QueryCanceled: "The server ended a query on the log {name} ({error}); raise its timeouts and resume the run.",
}


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Translate errors of the driver that the block raises.

    Raises:
        LogCorrupt: the database is damaged.
        LogUnreachable: the connection is lost, or cannot be made.
        LogError: anything else that keeps the log from being read or written.
    """
    try:
        yield
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
            message = f"The log {name} is damaged ({text}); restore a backup, or migrate what is sound into a new log."
            raise LogCorrupt(message) from error
        sentence = next((sentence for kind, sentence in _LOG_ERRORS.items() if isinstance(error, kind)), None)
        if sentence is None and is_connection_lost(error) and "password" in text:
            sentence = (
                "The server of the log {name} lets nobody in without the right password; set PGPASSWORD or use ~/.pgpass."
            )
        if sentence is None and is_connection_lost(error):
            raise LogUnreachable(
                f"The server of the log {name} cannot be reached ({text}); start it, or check the URL, then try again."
            ) from error
        sentence = sentence or "The log {name} cannot be used ({error}); resume the run once that is fixed."
        raise LogError(sentence.format(name=name, error=text)) from error


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, so that a new one may help."""
    gone = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.IdleSessionTimeout)
    return isinstance(error, gone) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)
