"""Files of records: JSON lines, or one JSON list, plain or gzipped.

Guarantees: reading is bounded, whatever a file claims to be; errors name file and line; a bad line does not end the reading.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from events.facts.errors import BadInput
from events.text.safe_text import one_line
from roles.questions.fields import Record, json_type

Readable = gzip.GzipFile | BufferedReader
LONGEST_LINE = 256 << 20
"""Bytes of one line, or of a file that is one JSON list."""
LARGEST = 64 << 30
"""Bytes of a file, unpacked."""


class FileRecord(NamedTuple):
    """A record with its file and line."""

    place: str
    record: Record


class _DuplicateKey(BadInput):
    """A JSON object has a key twice; a reader would silently take the last."""


def read_records(path: Path) -> Iterator[FileRecord | BadInput]:
    """The records of a file in order; for a bad one, the error. BadInput if the file cannot be read at all."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file in it.")
    try:
        with _opened(path) as file:
            first = file.peek(64)[:64].removeprefix(codecs.BOM_UTF8).lstrip()
            yield from _listed(path, file) if first[:1] == b"[" else _lines(path, file)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"Question file {path} cannot be read ({error}); give a JSONL file, plain or gzipped.") from error


def _opened(path: Path) -> Readable:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _lines(path: Path, file: Readable) -> Iterator[FileRecord | BadInput]:
    number = taken = 0
    while line := file.readline(LONGEST_LINE + 1):
        number, taken = number + 1, taken + len(line)
        if len(line) > LONGEST_LINE or taken > LARGEST:
            raise BadInput(
                f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MiB, or the file than {LARGEST >> 30} GiB; split it."
            )
        if b"\0" in line:
            raise BadInput(f"{path}, line {number}: a zero byte, so this is no text; give a JSONL file, plain or gzipped.")
        if line.strip():
            yield _row(f"{path}, line {number}", line)


def _listed(path: Path, file: Readable) -> Iterator[FileRecord | BadInput]:
    content = file.read(LONGEST_LINE + 1)
    if len(content) > LONGEST_LINE:
        raise BadInput(f"{path}: a JSON list of more than {LONGEST_LINE >> 20} MiB; write one record a line.")
    records = _decoded(str(path), content)
    if isinstance(records, _DuplicateKey):
        yield records
        return
    if isinstance(records, BadInput):
        # What starts with a bracket may as well be lines, of which the first is bad.
        lines = content.split(b"\n")
        yield from (_row(f"{path}, line {number}", line) for number, line in enumerate(lines, 1) if line.strip())
        return
    for number, values in enumerate(records, 1):
        yield _object(f"{path}, record {number}", values)


def _row(place: str, line: bytes) -> FileRecord | BadInput:
    values = _decoded(place, line)
    return values if isinstance(values, BadInput) else _object(place, values)


def _decoded(place: str, content: bytes) -> Any:
    """The JSON value, or the error as a `BadInput`."""
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except _DuplicateKey as error:
        return _DuplicateKey(f"{place}: {error}")
    except UnicodeDecodeError as error:
        return BadInput(f"{place}: not UTF-8 ({error.reason} at byte {error.start}); mend or remove it.")
    except RecursionError:
        return BadInput(f"{place}: not valid JSON (nested too deeply); mend or remove it.")
    except ValueError as error:
        return BadInput(f"{place}: not valid JSON ({error}); mend or remove it.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, each of whose keys may occur once."""
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKey(f"the key {one_line(json.dumps(again), 60)} stands twice in an object; remove one of them.")
    return values


def _object(place: str, values: Any) -> FileRecord | BadInput:
    if not isinstance(values, dict):
        return BadInput(f"{place}: a record is a JSON object, this is {json_type(values)}; mend or remove it.")
    return FileRecord(place, Record(values))
