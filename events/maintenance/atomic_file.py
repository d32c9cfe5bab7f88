"""A new file that gets its name once it is whole: until then it is a draft beside its place, and goes if anything fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from events.facts.errors import BadInput, LogError

SQLITE_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""Endings of the files that SQLite makes for one database."""


@contextmanager
def write_atomically(target: Path, what: str) -> Iterator[Path]:
    """A file beside the target to write into; afterwards it is the target.

    Args:
        target: the new file; its folder is made.
        what: what it is called in errors, such as `backup`.

    Raises:
        BadInput: the target exists.
        LogError: it cannot be written.
    """
    check_new(target, what)
    path = target.with_name(f"{target.name}.draft-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The system says better than SQLite why a file cannot be made.
        path.touch()
        yield path
        _sync(path)
        _named(path, target)
        _sync(target.parent)
    except FileExistsError as error:
        raise BadInput(f"{target} exists; give the {what} a new name.") from error
    except OSError as error:
        raise write_error(target, what, error) from error
    finally:
        for name in SQLITE_SUFFIXES:
            with suppress(OSError):
                path.with_name(path.name + name).unlink(missing_ok=True)


def check_new(target: Path, what: str) -> None:
    """Refuse a target that is there.

    Raises:
        BadInput: it exists.
    """
    if os.path.lexists(target):
        raise BadInput(f"{target} exists; give the {what} a new name.")


def write_error(target: Path, what: str, error: OSError) -> LogError:
    """What is said when the target cannot be written."""
    return LogError(f"The {what} {target} cannot be written ({error.strerror or error}); choose another place, or make room.")


def _named(path: Path, target: Path) -> None:
    # A link, unlike a renaming, never replaces what somebody else put there meanwhile.
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # This file system has no links.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        path.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
