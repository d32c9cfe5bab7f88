"""Writes a new file atomically: it gets its name once it is complete; until then it is a draft, which is removed on failure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from events.facts.errors import BadInput, LogError

SQLITE_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite makes for one database."""


@contextmanager
def write_atomically(target: Path, what: str) -> Iterator[Path]:
    """A draft beside the target to write into, which becomes the target when the block ends; errors call it `what`.

    Raises:
        BadInput: the target exists.
        LogError: it cannot be written.
    """
    check_new(target, what)
    path = target.with_name(f"{target.name}.draft-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The system's error says better than SQLite's why a file cannot be made.
        path.touch()
        yield path
        fsync_path(path)
        _give_name(path, target)
        fsync_path(target.parent)
    except FileExistsError as error:
        raise BadInput(f"{target} exists; give the {what} a new name.") from error
    except OSError as error:
        raise write_error(target, what, error) from error
    finally:
        for name in SQLITE_SUFFIXES:
            with suppress(OSError):
                path.with_name(path.name + name).unlink(missing_ok=True)


def check_new(target: Path, what: str) -> None:
    """Refuse a target that exists.

    Raises:
        BadInput: it exists.
    """
    if os.path.lexists(target):
        raise BadInput(f"{target} exists; give the {what} a new name.")


def write_error(target: Path, what: str, error: OSError) -> LogError:
    """The error of a target that cannot be written."""
    return LogError(f"The {what} {target} cannot be written ({error.strerror or error}); choose another place, or make room.")


def _give_name(path: Path, target: Path) -> None:
    # A link, unlike a rename, never replaces a file that was made meanwhile.
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # This file system has no links.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        path.replace(target)


def fsync_path(path: Path) -> None:
    """Return once a file, or the names in a folder, are on the disk; OSError if they cannot be."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
