"""The user's home, and what takes its place where there is none: a container often gives neither HOME nor an account."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from events.facts.errors import LogError

_NAME_ONE = "set XDG_CACHE_HOME to a folder that you can write"


def home_folder() -> Path | None:
    """The user's home; None where nothing says which it is."""
    found = Path(os.path.expanduser("~"))  # Path.home() raises where there is none
    return found if found.is_absolute() else None


def ensure_home() -> None:
    """Let libraries that ask for the home find one."""
    if home_folder() is None:
        os.environ["HOME"] = str(private_temp_folder())


def private_temp_folder() -> Path:
    """A folder that lasts until the machine forgets it, and that nobody else can write.

    Raises:
        LogError: there is none.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"gasp-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise LogError(f"there is no home and no temporary folder ({error.strerror or error}); {_NAME_ONE}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise LogError(f"there is no home, and {folder} is not a folder that only you can write; {_NAME_ONE}")
    return folder
