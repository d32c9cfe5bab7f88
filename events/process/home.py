"""The user's home folder, and a replacement where there is none: a container often has neither HOME nor an account."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from events.facts.errors import LogError

_ADVICE = "set XDG_CACHE_HOME to a folder that you can write"


def home_folder() -> Path | None:
    """The user's home folder; None where neither HOME nor an account names it."""
    path = Path(os.path.expanduser("~"))  # Path.home() raises where there is none
    return path if path.is_absolute() else None


def ensure_home() -> None:
    """Set HOME for libraries that need it, where there is none."""
    if home_folder() is None:
        os.environ["HOME"] = str(private_temp_folder())


def private_temp_folder() -> Path:
    """A temporary folder of this user that nobody else can write; it outlasts the process.

    Raises:
        LogError: there is none.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"gasp-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise LogError(f"There is no home and no temporary folder ({error.strerror or error}); {_ADVICE}.") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise LogError(f"There is no home, and {folder} is not a folder that only you can write; {_ADVICE}.")
    return folder
