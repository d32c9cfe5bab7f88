"""The stores of the log, and how to open one."""

from __future__ import annotations

from pathlib import Path

from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create as create_file

__all__ = ["open_log"]


def open_log(path: Path, *, create: bool = False) -> SqliteLog:
    """The log in the file `path`.

    Args:
        path: the file, usually `log.sqlite` in the directory of a run.
        create: make an empty log there if there is none.

    Raises:
        BadInput: there is no log, something else, or a log of another schema.
        LogError: the file cannot be opened, made or read.
    """
    if create:
        create_file(path)
    return SqliteLog(path)
