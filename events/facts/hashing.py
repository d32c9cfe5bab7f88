"""Hashes of events and blobs, and the chain that makes a changed or missing event visible.

- The hash of an event is SHA-256 over the canonical JSON array `[prev_hash, stream, version, kind, schema, data, causation]`.
- The head is SHA-256 over the previous head and this hash, both as hex text.
- Times and measures stay outside, so that equal runs have equal heads.

A chain shows edits, gaps and a cut-off tail. It does not stop someone who owns the file and recomputes all of it; publish the
head if that matters.
"""

from __future__ import annotations

import hashlib
import json
from json.encoder import encode_basestring_ascii as quoted

from events.facts.errors import LogError
from events.facts.fact import Fact
from events.facts.values import BlobHash, canonical

ZERO_HASH = "0" * 64
"""`prev_hash` of a stream's first event, and head of an empty log."""


def blob_hash(content: bytes) -> BlobHash:
    """SHA-256 (hex) of a blob's content, which is its name."""
    return BlobHash(hashlib.sha256(content).hexdigest())


def kind_of(fact: Fact) -> str:
    """The fact's kind, such as `run_started`."""
    return str(getattr(fact, "kind", type(fact).__name__))


def data_of(fact: Fact) -> str:
    """The fact's canonical JSON text.

    Raises:
        LogError: it holds a number that is not finite, or half of a surrogate pair, which JSON cannot carry.
    """
    try:
        data = canonical(fact).decode()
        # Only an escaped surrogate can be half of a pair, and most texts hold none.
        if "\\ud" in data:
            json.dumps(json.loads(data), ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        message = f"A fact of kind {kind_of(fact)} cannot be written as JSON ({error})"
        raise LogError(f"{message}; give it finite numbers and valid Unicode.") from error
    return data


def hash_event(prev_hash: str, stream: str, version: int, kind: str, schema: int, data: str, causation: int | None) -> str:
    """Hash of an event. `data` is the stored text, so that no later change of a class can change an old hash."""
    # Written by hand, because the data is JSON already.
    names = f"{quoted(prev_hash)},{quoted(stream)},{version},{quoted(kind)},{schema}"
    content = f"[{names},{data},{'null' if causation is None else causation}]"
    return hashlib.sha256(content.encode()).hexdigest()


def next_head(head: str, event_hash: str) -> str:
    """The log's head after one more event."""
    return hashlib.sha256((head + event_hash).encode()).hexdigest()
