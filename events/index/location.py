"""Location of a log's index: beside it, in the user's cache folder, or else in a temporary folder of the user.

Nothing is written into a folder that is not writable.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from events.cli.app import LOG_NAME, locate_log
from events.facts.log import ProgressCallback, ReadableLog, ignore_progress
from events.process.home import home_folder, private_temp_folder

if TYPE_CHECKING:
    from events.index.reader import Index

INDEX_NAME = "index.sqlite"
"""The index's file in the directory of a run."""
_PASSWORD = re.compile(r"(?<=//)([^/@:]*):[^/@]*@|(?<=[?&])password=[^&]*")


def index_path(where: str) -> Path:
    """The file of a log's index, by the name of the log on the command line.

    Raises:
        BadInput: there is no such log.
    """
    log = locate_log(where)
    if isinstance(log, Path):
        log = log.resolve()
        beside = log.with_name(INDEX_NAME if log.name == LOG_NAME else f"{log.name}.{INDEX_NAME}")
        if os.access(beside if beside.exists() else beside.parent, os.W_OK):
            return beside
    name = _PASSWORD.sub(r"\1@", str(log))
    return cache_folder("index") / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.sqlite"


def cache_folder(kind: str) -> Path:
    """The folder of this user for what can be made again, such as indexes that do not lie beside their log (`index`).

    Raises:
        LogError: no folder can be written.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # As the convention has it, a relative path counts as none.
    if base.is_absolute():
        return base / "gasp" / kind
    home = home_folder()
    if home is not None and _can_hold(folder := home / ".cache" / "gasp" / kind):
        return folder
    return private_temp_folder() / kind


def _can_hold(folder: Path) -> bool:
    """Whether the folder can be written, or made."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


@contextmanager
def open_index(log: ReadableLog, where: str, on_progress: ProgressCallback = ignore_progress) -> Iterator[Index]:
    """The index of a log, brought up to date; `where` is the log's name on the command line."""
    from events.index.writer import Indexer

    with closing(Indexer(log, index_path(where))) as indexing:
        indexing.catch_up(on_progress)
        yield indexing.index
