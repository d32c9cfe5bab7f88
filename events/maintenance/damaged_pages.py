"""Reads the rows of a damaged SQLite file page by page, without the B-trees that lead to them, which may be broken.

It reads every leaf page of the file and of its write-ahead file, and returns every record that has the shape of an event, a
blob or a key. The format is "Database File Format" in SQLite's documentation.
Not responsible for: proving them. Hashes do that, of events by their chain and of blobs by their names.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from events.facts.log import ProgressCallback, ignore_progress
from events.facts.values import BlobHash
from events.stores.rows import Row
from events.stores.staging import PackedBlob
from events.stores.transaction import Key

PAGE: Final = 4096
"""Bytes of a page, if the file's header does not tell."""
_LEAF: Final = 0x0D
"""First byte of a leaf page of a table's B-tree."""
_HEADER: Final = 100
_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_EVENT, _BLOB, _KEY = len(Row._fields), len(PackedBlob._fields), len(Key._fields)
_HEX: Final = 13 + 2 * 64
"""Record type of a text of 64 bytes."""
_WIDTHS: Final = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value by its record type, for types below 10."""
_LARGEST: Final = 1 << 31
_PROGRESS_EVERY: Final = 1_000

SqlValue = int | float | str | bytes | None


class _Cell(NamedTuple):
    """Location of a record."""

    file: int
    """0: the log; 1: its write-ahead file."""
    offset: int
    size: int
    rowid: int


class DamagedPages:
    """Records in the pages of a log's file."""

    def __init__(self, path: Path, on_progress: ProgressCallback = ignore_progress) -> None:
        """Read every page of the log's file and of the write-ahead file beside it, if any."""
        self._maps = [_mapped(path), _mapped(path.with_name(f"{path.name}-wal"))]
        self._size = _page_size(self._maps[0])
        # Byte 20 says how many bytes at the end of each page are reserved; 64 and more would be damage.
        self._usable = self._size - (self._maps[0][20] if len(self._maps[0]) > 20 and self._maps[0][20] < 64 else 0)
        self._events: dict[int, list[_Cell]] = {}
        self._blobs: dict[bytes, _Cell] = {}
        self._keys: dict[int, _Cell] = {}
        self._newer: dict[int, int] = dict(_frames(self._maps[1], self._size))
        starts = [(0, start) for start in range(0, len(self._maps[0]), self._size)]
        starts += [(1, start) for start in sorted(self._newer.values())]
        for done, (file, start) in enumerate(starts, 1):
            self._read_page(file, start)
            if done % _PROGRESS_EVERY == 0:
                on_progress(done, len(starts))

    def _read_page(self, file: int, start: int) -> None:
        data = self._maps[file]
        page = data[start : start + self._size]
        at = _HEADER if file == 0 and start == 0 else 0
        if len(page) < self._size or page[at] != _LEAF:
            return
        # The header has the number of cells; behind it are two bytes for each, which point to it.
        count = int.from_bytes(page[at + 3 : at + 5])
        for pointer in range(at + 8, min(at + 8 + 2 * count, self._size - 1), 2):
            with suppress(IndexError, ValueError):
                self._read_cell(file, start, page, int.from_bytes(page[pointer : pointer + 2]))

    def _read_cell(self, file: int, start: int, page: bytes, at: int) -> None:
        size, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if not 0 < size < _LARGEST:
            return
        types, body = _types(page, at)
        cell = _Cell(file, start + at, size, rowid)
        # The row id stands for an integer primary key, whose type is 0. Three hashes of 64 bytes are telling enough.
        if len(types) == _EVENT and types[0] == 0 and types[7:10] == [_HEX] * 3:
            self._events.setdefault(rowid, []).append(cell)
        elif len(types) == _BLOB and types[0] == _HEX and types[2] >= 12 and types[2] % 2 == 0:
            self._blobs[page[body : body + 64]] = cell
        elif len(types) == _KEY and all(kind > 12 and kind % 2 for kind in types[:2]):
            self._keys[rowid] = cell

    def rows(self, position: int) -> Iterator[Row]:
        """All records that claim to be the event at a position."""
        # Those of the write-ahead file were read last and are newer.
        for cell in reversed(self._events.get(position, ())):
            values = self._values(cell)
            if values is not None and all(isinstance(value, str) for value in (values[1], values[5], values[11])):
                yield Row._make([cell.rowid, *values[1:]])

    def packed(self, blob: BlobHash) -> PackedBlob | None:
        """The record of a blob's hash; None if there is none."""
        cell = self._blobs.get(blob.encode())
        values = None if cell is None else self._values(cell)
        return None if values is None else PackedBlob._make(values)

    def found_keys(self) -> Iterator[tuple[int, Key]]:
        """All keys, each with its row id."""
        for number, cell in sorted(self._keys.items()):
            match self._values(cell):
                case [str(stream), str(key), int(version), int(size)]:
                    yield number, Key(stream, key, version, size)

    @property
    def empty(self) -> bool:
        """Whether there is no event."""
        return not self._events

    def close(self) -> None:
        """Release the files."""
        for data in self._maps:
            if isinstance(data, mmap.mmap):
                data.close()

    def _values(self, cell: _Cell) -> list[SqlValue] | None:
        try:
            record = self._record(cell)
            types, at = _types(record, 0)
            values: list[SqlValue] = []
            for kind in types:
                width = _WIDTHS[kind] if kind < len(_WIDTHS) else (kind - 12) // 2
                values.append(_value(kind, record[at : at + width]))
                at += width
            return values if at <= len(record) else None
        except (IndexError, ValueError):
            return None

    def _record(self, cell: _Cell) -> bytes:
        # A record that does not fit its page keeps a prefix there, whose length this formula of SQLite gives; the rest is a
        # linked list of overflow pages, each of which begins with the number of the next.
        data, room = self._maps[cell.file], self._usable
        most = room - 35
        if cell.size <= most:
            return data[cell.offset : cell.offset + cell.size]
        least = (room - 12) * 32 // 255 - 23
        local = least + (cell.size - least) % (room - 4)
        local = local if local <= most else least
        parts, left = [data[cell.offset : cell.offset + local]], cell.size - local
        number = int.from_bytes(data[cell.offset + local : cell.offset + local + 4])
        while left > 0:
            page = self._page(number)
            number = int.from_bytes(page[:4])
            parts.append(page[4 : min(room, 4 + left)])
            left -= room - 4
        return b"".join(parts)

    def _page(self, number: int) -> bytes:
        file, start = (1, self._newer[number]) if number in self._newer else (0, (number - 1) * self._size)
        page = self._maps[file][start : start + self._size] if start >= 0 else b""
        if len(page) < self._size:
            raise IndexError(number)
        return page


def _mapped(path: Path) -> mmap.mmap | bytes:
    if not path.is_file() or not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _page_size(data: mmap.mmap | bytes) -> int:
    size = int.from_bytes(data[16:18]) if data[:6] == b"SQLite" else 0
    size = 1 << 16 if size == 1 else size
    return size if size >= 512 and size & (size - 1) == 0 else PAGE


def _frames(data: mmap.mmap | bytes, size: int) -> Iterator[tuple[int, int]]:
    """Page number and offset of every frame since the write-ahead file's last reset, the newest of a page last."""
    if len(data) < _WAL_HEADER or int.from_bytes(data[:4]) not in _WAL_MAGIC or int.from_bytes(data[8:12]) != size:
        return
    # Frames of earlier rounds lie behind the last one, with another salt.
    salt = data[16:24]
    for start in range(_WAL_HEADER, len(data) - _FRAME_HEADER - size + 1, _FRAME_HEADER + size):
        if data[start + 8 : start + 16] != salt:
            return
        yield int.from_bytes(data[start : start + 4]), start + _FRAME_HEADER


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of SQLite's variable-length encoding, and the offset behind it."""
    value = 0
    for offset in range(at, at + 8):
        value = value << 7 | data[offset] & 0x7F
        if data[offset] < 0x80:
            return value, offset + 1
    # SQLite's ninth byte has no flag and eight bits of value.
    return value << 8 | data[at + 8], at + 9


def _types(record: bytes, at: int) -> tuple[Sequence[int], int]:
    """The types of a record's values, and the offset of the values."""
    # A record begins with the length of its header, then has a type per value, then the values.
    length, offset = _varint(record, at)
    end = at + length
    types: list[int] = []
    # No table of a log has more columns, and a damaged length may be huge.
    while offset < end and len(types) <= _EVENT:
        kind, offset = _varint(record, offset)
        types.append(kind)
    return types, end


def _value(kind: int, raw: bytes) -> SqlValue:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind < 7:
        return int.from_bytes(raw, signed=True)
    if kind < 12:
        raise ValueError(kind)
    return raw.decode() if kind % 2 else raw
