"""Backs a log up into one SQLite file, while a run may be writing it.

Guarantees: a backup is the log at one moment, it is verified before it gets its name, and it never replaces a file. To restore
one, copy the file back, or migrate it.
Not responsible for: rotation and schedules.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Head, ProgressCallback, ignore_progress
from events.maintenance.atomic_file import check_new, write_atomically
from events.maintenance.copy import migrate
from events.stores import is_url, open_log
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import check_schema, create
from events.stores.sqlite_reader import SqliteReader


def backup(where: Path | str, target: Path, on_progress: ProgressCallback = ignore_progress) -> Head:
    """Copy the log at `where`, a file or a URL, into the new file `target`; returns the end of the copy.

    Raises:
        BadInput: there is no log, or `target` exists.
        LogCorrupt: the copy is not sound, most likely because the log is not.
        LogError: the log cannot be read, or `target` cannot be written.
    """
    check_new(target, "backup")
    if not is_url(where) and not Path(where).is_file():
        raise BadInput(f"There is no log at {where}; give the log.sqlite of a run, or a URL.")
    with write_atomically(target, "backup") as path:
        if is_url(where):
            create(path)
            with closing(open_log(where)) as source, closing(SqliteLog(path)) as copy:
                migrate(source, copy, on_progress)
        else:
            _copy_file(Path(where), path)
        with closing(SqliteLog(path)) as copy:
            corruption, head = copy.verify(on_progress), copy.head()
        if corruption is not None:
            name = "the database" if is_url(where) else where
            message = f"The backup of {name} is wrong at position {corruption.position}: {corruption.problem}"
            raise LogCorrupt(f"{message}; verify the log, and repair it if it is broken too.")
    return head


_DISK_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}


def _copy_file(path: Path, target: Path) -> None:
    def copy_all(source: sqlite3.Connection) -> None:
        check_schema(source, path)
        try:
            # In one step, so that it is the log at one moment; in WAL mode nobody waits for it.
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
        except sqlite3.Error as error:
            # An error of the backup, not of the log.
            code = error.sqlite_errorcode & 0xFF
            if code in _DISK_ERRORS:
                raise OSError(_DISK_ERRORS[code], os.strerror(_DISK_ERRORS[code])) from error
            raise

    with closing(SqliteReader(path)) as reader:
        reader.ask(copy_all)
