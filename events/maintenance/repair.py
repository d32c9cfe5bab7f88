"""Rescues what is sound of a damaged log file: the longest prefix in which every hash and every blob is right.

Guarantees: the damaged file is only copied, never opened, and the rescue is a new file, so that nothing is lost that could be
saved by better means.

Rows are searched page by page, whatever became of the B-trees that lead to them; the chain of hashes proves the first events.
Everything behind the first event that is not proved is lost, because positions have no gaps and a head covers all before it.
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
    """Result of a repair, or of its dry run."""

    sound: Head
    """End of the sound prefix."""
    promised: int | None
    """Events that the log's tip counts; None if it cannot be read."""
    broken: Corruption | None
    """The first corruption; None if the log is sound."""
    target: Path | None
    """The new file with the sound prefix; None if nothing was written."""
    keys: bool = True
    """Whether the keys could be read. Without them, a repeated append is not recognised."""

    @property
    def lost(self) -> int | None:
        """Events behind the sound prefix; None if unknown."""
        return None if self.promised is None else max(0, self.promised - self.sound.position)

    def rename_log(self, copy: Path, path: Path) -> RepairReport:
        """The same, with the log's path in place of its copy's."""
        if self.broken is None:
            return self
        return self._replace(broken=self.broken._replace(problem=self.broken.problem.replace(str(copy), str(path))))


def repair(path: Path, target: Path, *, dry_run: bool = True, on_progress: ProgressCallback = ignore_progress) -> RepairReport:
    """Copy the sound prefix of the log at `path` into the new file `target`, if the log is broken and it is no dry run.

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
            return _repair_copy(copy, target, on_progress, dry_run=dry_run).rename_log(copy, path)
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
        # A dry run writes nothing there.
        return TemporaryDirectory(prefix="gasp-repair-")


def _repair_copy(copy: Path, target: Path, on_progress: ProgressCallback, *, dry_run: bool) -> RepairReport:
    with ExitStack() as stack:
        log, promised = None, None
        try:
            log = stack.enter_context(closing(SqliteLog(copy, damaged=True)))
            broken, promised = _broken(log, on_progress)
            if broken is None:
                return RepairReport(log.head(), promised, None, None)
        except (BadInput, LogError) as error:
            broken, cause = Corruption(1, _without_advice(error)), error
        pages = stack.enter_context(closing(DamagedPages(copy, on_progress)))
        salvage = SalvagedRows(None if log is None else log.raw(), pages)
        if log is None and salvage.empty:
            if isinstance(cause, LogCorrupt):
                raise LogCorrupt(f"{_without_advice(cause)}; nothing of it can be rescued, so restore a backup.")
            raise cause
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
                corruption = rescue.verify()
            if corruption is not None:
                message = f"The rescue is wrong at position {corruption.position}: {corruption.problem}"
                raise LogCorrupt(f"{message}; restore a backup.")
        return RepairReport(chain.tip, promised, broken, target, salvage.keyed)


def _broken(log: SqliteLog, on_progress: ProgressCallback) -> tuple[Corruption | None, int | None]:
    """The corruption of a log, and the number of events that its tip counts."""
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
    """Rows of a damaged file, from SQLite and from its pages."""

    def __init__(self, raw: RawLog | None, pages: DamagedPages) -> None:
        """Read nothing yet; `raw` is the log as SQLite reads it, None where it cannot open the file."""
        self._raw = raw
        self._pages = pages
        self.empty = pages.empty
        """Whether no page holds an event."""
        self.keyed = True
        """Whether the row ids of the keys have no gap; without a key, a repeated append is not recognised."""

    def sound(self, promised: int | None) -> Iterator[Row]:
        """Rows from the first on, as long as their hashes and blobs are right."""
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
        """See `events.stores.raw.RawLog.packed`."""
        packed = self._pages.packed(blob)
        with suppress(LogError):
            if packed is not None:
                unpack_blob(blob, packed.content)
                return packed
        if self._raw is None:
            raise LogCorrupt(f"Blob {blob} is missing.")
        return self._raw.packed(blob)

    def all_keys(self) -> Iterator[Key]:
        """See `events.stores.raw.RawLog.all_keys`."""
        expected = 1
        for number, key in self._pages.found_keys():
            self.keyed = self.keyed and number == expected
            expected = number + 1
            yield key
