"""Blobs that wait, compressed, for the append that makes them durable."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Collection
from typing import NamedTuple

from events.facts.hashing import blob_hash
from events.facts.values import BlobHash
from events.stores.rows import checked_blob


class PackedBlob(NamedTuple):
    """A blob as stored; the order of the fields is the order of the table's columns."""

    hash: BlobHash
    size: int
    content: bytes


class Staging:
    """Blobs that are not durable yet. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._packed: dict[BlobHash, PackedBlob] = {}

    def put(self, content: bytes) -> BlobHash:
        """Stage a blob."""
        blob = blob_hash(content)
        packed = PackedBlob(blob, len(content), zlib.compress(content))
        with self._lock:
            # Compressed by now, so that threads do not wait for one another's compression.
            self._packed[blob] = packed
        return blob

    def get(self, blob: BlobHash) -> bytes | None:
        """Content of a waiting blob; None if it does not wait."""
        with self._lock:
            packed = self._packed.get(blob)
        return None if packed is None else zlib.decompress(packed.content)

    def waiting(self) -> list[PackedBlob]:
        """All waiting blobs."""
        with self._lock:
            return list(self._packed.values())

    def forget(self, stored: Collection[PackedBlob]) -> None:
        """Drop blobs that are durable now."""
        with self._lock:
            for packed in stored:
                self._packed.pop(packed.hash, None)

    def clear(self) -> None:
        """Drop all blobs."""
        with self._lock:
            self._packed.clear()


def unpack_blob(blob: BlobHash, content: bytes | None) -> bytes:
    """The content of a stored blob, checked against its hash.

    Raises:
        LogCorrupt: it is missing or does not match.
    """
    try:
        return checked_blob(blob, None if content is None else zlib.decompress(content))
    except zlib.error:
        return checked_blob(blob, b"")
