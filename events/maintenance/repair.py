"""Rescues what is sound of a damaged log file: the longest beginning in which every hash and every blob is right.

Law: the damaged file is only copied, never opened, and the rescue goes into a new one, so nothing that could still be saved
by better means is lost. Without being asked it only says what it would do. It invents nothing: what is behind the first damage
stays behind.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from events.errors import BadInput, LogCorrupt, LogError
from events.log import Broken, Head, Say, silent
from events.maintenance.copy import take_keys, transfer
from events.stores.raw import Raw
from events.stores.rows import Chain, Row, blobs_of, open_row
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create


class Repair(NamedTuple):
    """What was found, and what was done."""

    sound: Head
    """Where the sound beginning ends."""
    promised: int | None
    """Events that the log says it has; None if that cannot be read."""
    broken: Broken | None
    """The first thing that is wrong; None if the log is sound."""
    target: Path | None
    """The new file with the sound beginning; None if nothing was written."""
    keys: bool = True
    """Whether the keys could be read. Without them, a repeated append is not recognised."""

    @property
    def lost(self) -> int | None:
        """Events behind the sound beginning; None if nobody knows."""
        return None if self.promised is None else max(0, self.promised - self.sound.position)

    def about(self, copy: Path, path: Path) -> Repair:
        """The same, with the log's own name where a copy of it was examined."""
        if self.broken is None:
            return self
        return self._replace(broken=self.broken._replace(problem=self.broken.problem.replace(str(copy), str(path))))


def repair(path: Path, target: Path, *, dry_run: bool = True, say: Say = silent) -> Repair:
    """Copy the sound beginning of the log at `path` into the new file `target`, if the log is broken and it is no dry run.

    Raises:
        BadInput: there is no log, or `target` exists.
        LogCorrupt: the file is too damaged to be opened as a log at all.
    """
    if target.exists():
        raise BadInput(f"{target} exists; repair never writes into a file, give it a new name")
    if not path.is_file():
        raise BadInput(f"there is no log at {path}; give the log.sqlite of a run")
    # SQLite may write into a file that it opens, so it gets a copy.
    with TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.draft-") as folder:
        copy = Path(folder) / path.name
        try:
            for name in (path.name, f"{path.name}-wal"):
                if path.with_name(name).is_file():
                    shutil.copyfile(path.with_name(name), copy.with_name(name))
            with closing(SqliteLog(copy, damaged=True)) as log:
                return _rescued(log, target, say, dry_run=dry_run).about(copy, path)
        except (BadInput, LogCorrupt) as error:
            raise type(error)(str(error).replace(str(copy), str(path))) from error


def _rescued(log: SqliteLog, target: Path, say: Say, *, dry_run: bool) -> Repair:
    broken, promised = _examined(log, say)
    if broken is None:
        return Repair(log.head(), promised, None, None)
    rows = _sound(log.raw(), promised)
    if dry_run:
        chain = Chain()
        for row in rows:
            chain.add(row)
        return Repair(chain.tip, promised, broken, None)
    create(target)
    with closing(SqliteLog(target)) as copy:
        chain, _ = transfer(rows, log.raw(), copy)
        keys = _keys(log.raw(), copy, chain)
        again = copy.verify()
    if again is not None:
        raise LogCorrupt(f"the rescue {target} is wrong at position {again.position}: {again.problem}; delete it")
    return Repair(chain.tip, promised, broken, target, keys)


def _examined(log: SqliteLog, say: Say) -> tuple[Broken | None, int | None]:
    """What is wrong with a log, and how many events it promises."""
    try:
        promised = log.head().position
    except LogError as error:
        return Broken(1, str(error)), None
    try:
        return log.verify(say), promised
    except LogError as error:
        return Broken(promised, str(error)), promised


def _sound(raw: Raw, promised: int | None) -> Iterator[Row]:
    """Rows from the first on, as long as everything about them is right."""
    chain, row = Chain(), None
    while promised is None or chain.tip.position < promised:
        try:
            # One at a time, because a page of rows is lost as a whole.
            row = raw.row(chain.tip.position + 1)
            if row is None or chain.problem(row) is not None:
                return
            for blob in blobs_of(open_row(row).fact):
                raw.packed(blob)
        except (LogError, ValueError, TypeError):
            return
        chain.add(row)
        yield row


def _keys(raw: Raw, copy: SqliteLog, chain: Chain) -> bool:
    try:
        take_keys(raw, copy, chain)
    except LogCorrupt:
        return False
    return True
