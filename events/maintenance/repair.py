"""Rescues what is sound of a damaged log file: the longest beginning in which every hash and every blob is right.

The damaged file is only copied, never opened, and the rescue goes into a new one, so nothing that could still be saved by
better means is lost. Without being asked it only says what it would do. Rows are looked for page by page, wherever they lie in
the file and whatever became of the trees that lead to them; the chain of hashes proves which are the log's first events. What
is behind the first event that cannot be proved stays behind: positions have no gaps, and a head needs all before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from events.facts.errors import BadInput, GaspError, LogCorrupt, LogError
from events.facts.hashing import ZERO_HASH
from events.facts.log import Corruption, Head, ProgressCallback, ignore_progress
from events.facts.values import BlobHash
from events.maintenance.atomic_file import check_new, write_atomically, write_error
from events.maintenance.copy import copy_keys, copy_rows
from events.maintenance.damaged_pages import DamagedPages
from events.stores.raw import RawLog
from events.stores.rows import HashChain, Row, blobs_of, open_row
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create
from events.stores.staging import PackedBlob, unpack_blob
from events.stores.transaction import Key


class RepairReport(NamedTuple):
    """What was found, and what was done."""

    sound: Head
    """Where the sound beginning ends."""
    promised: int | None
    """Events that the log says it has; None if that cannot be read."""
    broken: Corruption | None
    """The first thing that is wrong; None if the log is sound."""
    target: Path | None
    """The new file with the sound beginning; None if nothing was written."""
    keys: bool = True
    """Whether the keys could be read. Without them, a repeated append is not recognised."""

    @property
    def lost(self) -> int | None:
        """Events behind the sound beginning; None if nobody knows."""
        return None if self.promised is None else max(0, self.promised - self.sound.position)

    def about(self, copy: Path, path: Path) -> RepairReport:
        """The same, with the log's own name where a copy of it was examined."""
        if self.broken is None:
            return self
        return self._replace(broken=self.broken._replace(problem=self.broken.problem.replace(str(copy), str(path))))


def repair(path: Path, target: Path, *, dry_run: bool = True, on_progress: ProgressCallback = ignore_progress) -> RepairReport:
    """Copy the sound beginning of the log at `path` into the new file `target`, if the log is broken and it is no dry run.

    Raises:
        BadInput: there is no log, or `target` exists.
        LogCorrupt: the file is too damaged to hold any of a log.
        LogError: the target cannot be written.
    """
    check_new(target, "rescue")
    if not path.is_file():
        raise BadInput(f"There is no log at {path}; give the log.sqlite of a run.")
    with _copied(path, target, dry_run=dry_run) as copy:
        try:
            return _examined(copy, target, on_progress, dry_run=dry_run).about(copy, path)
        except GaspError as error:
            raise type(error)(str(error).replace(str(copy), str(path))) from error


@contextmanager
def _copied(path: Path, target: Path, *, dry_run: bool) -> Iterator[Path]:
    """A copy of the file and of its write-ahead file, because SQLite may write into a file that it opens."""
    try:
        if not dry_run:
            target.parent.mkdir(parents=True, exist_ok=True)
        with _folder(target, dry_run=dry_run) as folder:
            copy = Path(folder) / path.name
            for name in (path.name, f"{path.name}-wal"):
                if path.with_name(name).is_file():
                    shutil.copyfile(path.with_name(name), copy.with_name(name))
            yield copy
    except OSError as error:
        raise write_error(target, "rescue", error) from error


def _folder(target: Path, *, dry_run: bool) -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.draft-")
    except OSError:
        if not dry_run:
            raise
        # Nothing will be written there, so nobody need be able to.
        return TemporaryDirectory(prefix="gasp-repair-")


def _examined(copy: Path, target: Path, on_progress: ProgressCallback, *, dry_run: bool) -> RepairReport:
    with ExitStack() as stack:
        log, promised = None, None
        try:
            log = stack.enter_context(closing(SqliteLog(copy, damaged=True)))
            broken, promised = _broken(log, on_progress)
            if broken is None:
                return RepairReport(log.head(), promised, None, None)
        except (BadInput, LogError) as error:
            broken, closed = Corruption(1, _without_advice(error)), error
        salvage = SalvagedRows(
            None if log is None else log.raw(), stack.enter_context(closing(DamagedPages(copy, on_progress)))
        )
        if log is None and salvage.empty:
            if isinstance(closed, LogCorrupt):
                raise LogCorrupt(f"{_without_advice(closed)}; nothing of it can be rescued, so restore a backup.")
            raise closed
        rows = salvage.sound(promised)
        if dry_run:
            tip = Head(0, ZERO_HASH)
            for row in rows:
                tip = Head(row.position, row.head)
            return RepairReport(tip, promised, broken, None)
        with write_atomically(target, "rescue") as path:
            create(path)
            with closing(SqliteLog(path)) as rescue:
                chain, _ = copy_rows(rows, salvage, rescue)
                copy_keys(salvage, rescue, chain)
                again = rescue.verify()
            if again is not None:
                raise LogCorrupt(f"The rescue is wrong at position {again.position}: {again.problem}; restore a backup.")
        return RepairReport(chain.tip, promised, broken, target, salvage.keyed)


def _broken(log: SqliteLog, on_progress: ProgressCallback) -> tuple[Corruption | None, int | None]:
    """What is wrong with a log, and how many events it promises."""
    try:
        promised = log.head().position
    except LogError as error:
        return Corruption(1, _without_advice(error)), None
    try:
        return log.verify(on_progress), promised
    except LogError as error:
        return Corruption(promised, _without_advice(error)), promised


def _without_advice(error: GaspError) -> str:
    return str(error).partition("; ")[0]


class SalvagedRows(RawLog):
    """Rows of a damaged file, as SQLite finds them and as its pages hold them."""

    def __init__(self, raw: RawLog | None, pages: DamagedPages) -> None:
        """Read nothing yet.

        Args:
            raw: what SQLite finds; None where it cannot open the file.
            pages: what is in the pages.
        """
        self._raw = raw
        self._pages = pages
        self.empty = pages.empty
        """Whether no page holds an event."""
        self.keyed = True
        """Whether no key is missing among those that were found; without them, a repeated append is not recognised."""

    def sound(self, promised: int | None) -> Iterator[Row]:
        """Rows from the first on, as long as everything about them is right."""
        chain = HashChain()
        while promised is None or chain.tip.position < promised:
            row = next((row for row in self._rows_at(chain.tip.position + 1) if self._fits(chain, row)), None)
            if row is None:
                return
            chain.add(row)
            yield row

    def _rows_at(self, position: int) -> Iterator[Row]:
        yield from self._pages.rows(position)
        with suppress(LogError):
            row = None if self._raw is None else self._raw.row(position)
            if row is not None:
                yield row

    def _fits(self, chain: HashChain, row: Row) -> bool:
        try:
            if chain.problem(row) is not None:
                return False
            for blob in blobs_of(open_row(row).fact):
                self.packed(blob)
        except (LogError, ValueError, TypeError):
            return False
        return True

    def packed(self, blob: BlobHash) -> PackedBlob:
        """See `events.stores.raw.Raw.packed`."""
        found = self._pages.packed(blob)
        with suppress(LogError):
            if found is not None:
                unpack_blob(blob, found.content)
                return found
        if self._raw is None:
            raise LogCorrupt(f"Blob {blob} is missing.")
        return self._raw.packed(blob)

    def all_keys(self) -> Iterator[Key]:
        """See `events.stores.raw.Raw.every_key`."""
        expected = 1
        for number, key in self._pages.found_keys():
            self.keyed = self.keyed and number == expected
            expected = number + 1
            yield key
