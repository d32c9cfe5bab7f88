"""Backs a log up into one SQLite file, while a run may be writing it.

Law: a backup is what the log was at one moment, it is verified before it gets its name, and it never replaces a file. To
restore one, copy the file back, or migrate it into a new place. It does not rotate or schedule.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from events.errors import BadInput, LogCorrupt, LogError
from events.log import Head, Say, silent
from events.maintenance.copy import migrate
from events.stores import is_url, open_log
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_errors import translated
from events.stores.sqlite_file import check_mark, connect, create


def backup(where: Path | str, target: Path, say: Say = silent) -> Head:
    """Copy the log at `where`, a file or a URL, into the new file `target`; where the copy ends.

    Raises:
        BadInput: there is no log, or `target` exists.
        LogCorrupt: the copy is not sound, most likely because the log is not.
        LogError: the log cannot be read, or `target` cannot be written.
    """
    if target.exists():
        raise BadInput(f"{target} exists; give the backup a new name")
    if not is_url(where) and not Path(where).is_file():
        raise BadInput(f"there is no log at {where}; give the log.sqlite of a run, or a URL")
    with _draft(target) as draft:
        if is_url(where):
            create(draft)
            with closing(open_log(where)) as source, closing(SqliteLog(draft)) as copy:
                migrate(source, copy, say)
        else:
            _copy_file(Path(where), draft)
        with closing(SqliteLog(draft)) as copy:
            broken, head = copy.verify(say), copy.head()
        if broken is not None:
            message = f"the backup of {_name(where)} is wrong at position {broken.position}: {broken.problem}"
            raise LogCorrupt(f"{message}; verify the log, and repair it if it is broken too")
    return head


def _name(where: Path | str) -> str:
    return "the database" if is_url(where) else str(where)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A file beside the target that gets its name once all is well, and otherwise goes."""
    draft = target.with_name(f"{target.name}.draft-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _sync(draft)
        # A link, unlike a renaming, never replaces what somebody else put there meanwhile.
        os.link(draft, target)
        _sync(target.parent)
    except FileExistsError as error:
        raise BadInput(f"{target} exists; give the backup a new name") from error
    except OSError as error:
        raise LogError(f"the backup {target} cannot be written ({error.strerror}); choose another place") from error
    finally:
        for name in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + name).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_file(path: Path, draft: Path) -> None:
    with translated(path), closing(connect(path)) as source:
        check_mark(source, path)
        try:
            # In one step, so that it is one moment of the log; in WAL mode nobody waits for it.
            with closing(sqlite3.connect(draft)) as copy:
                source.backup(copy)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
