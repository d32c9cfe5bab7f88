"""Translates errors of SQLite into the project's, with a sentence that says what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from events.facts.errors import BadInput, LogCorrupt, LogError

_LOG_ERRORS = {
    sqlite3.SQLITE_FULL: "The disk is full, so the log {path} took nothing of this append; free space and resume the run.",
    sqlite3.SQLITE_READONLY: "The log {path} is read-only; make the file and its directory writable, or copy them.",
    sqlite3.SQLITE_PERM: "The log {path} may not be opened; check the permissions of the file and its directory.",
    sqlite3.SQLITE_CANTOPEN: "The log {path} cannot be opened; its directory must be writable and have space.",
    sqlite3.SQLITE_BUSY: "Another process has kept the log {path} locked for too long; find it, end it and resume the run.",
    sqlite3.SQLITE_IOERR: "The log {path} cannot be read or written ({error}); check the disk and resume the run.",
}


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of the driver that the block raises.

    Raises:
        BadInput: the file is not a database at all.
        LogCorrupt: the file is damaged.
        LogError: anything else that keeps the log from being read or written.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise BadInput(f"Text that is not valid Unicode names nothing in the log {path}; give other text.") from error
    except OverflowError as error:
        raise BadInput(f"A number of more than 18 digits is no place in the log {path}; give a smaller one.") from error
    except sqlite3.Error as error:
        # The low byte is the primary code, the rest says more about it.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise BadInput(f"{path} is not a GASP log; give the directory or the log.sqlite of a run.") from error
        if code == sqlite3.SQLITE_CORRUPT or "decode" in str(error):
            rescue = f"`gasp log repair {quote(str(path))} NEW`"
            message = f"The log {path} is damaged ({error}); restore a backup, or rescue what is sound: {rescue}."
            raise LogCorrupt(message) from error
        sentence = _LOG_ERRORS.get(code, "The log {path} cannot be used ({error}); resume the run once that is fixed.")
        raise LogError(sentence.format(path=path, error=error)) from error
