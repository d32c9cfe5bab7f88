"""Keeps the models of GGUF files, converted, in a cache: a folder in Hugging Face format for each content of a file.

Guarantees: a folder is there whole or not at all, and never changes; a file is converted once, however many runs use it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from events.cli.output import print_note
from events.facts.errors import BadInput
from events.facts.values import GgufFile
from events.index.location import cache_folder
from roles.models.gguf_header import SUFFIX

CONVERSION: Final = 1
"""Part of the folders' names; a higher number where a conversion gives other files than before."""
_RECORD: Final = ".gguf.json"
"""File in a folder that says what was converted; not copied into runs."""


def is_gguf(spec: str) -> bool:
    """Whether a setting names a GGUF file, there or not: any file, and any name that ends so."""
    path = Path(spec).expanduser()
    return path.is_file() or (path.suffix.lower() == SUFFIX and not path.is_dir())


def gguf_source(spec: str, folder: Path) -> GgufFile | None:
    """The file whose weights were dequantised into a folder; None where `spec` names no GGUF file.

    Raises:
        BadInput: the folder does not say what was converted.
    """
    if not is_gguf(spec):
        return None
    try:
        record = GgufFile.model_validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(f"{folder / _RECORD} does not say what was converted ({error}); delete {folder}.") from error
    return record.model_copy(update={"name": Path(spec).name})


def is_converted(folder: Path) -> bool:
    """Whether a folder belongs to the cache, so that its files never change."""
    return folder.parent == cache_folder("gguf")


def converted_folder(file: Path) -> Path:
    """The folder with the model of a GGUF file, converted now if it was not before.

    Raises:
        BadInput: there is no such file, it cannot be converted, or there is no room.
        LogError: no folder for the cache can be written.
    """
    from roles.models.gguf_config import read_model
    from roles.models.gguf_conversion import convert, converter, weight_count

    header = read_model(file)
    digest, cache = _digest(file, file.stat().st_mtime_ns), cache_folder("gguf")
    folder = cache / f"{digest}-{CONVERSION}"
    if folder.is_dir():
        return folder
    record = GgufFile(name=file.name, digest=digest, types=header.types, converter=converter())
    print_note(f"{file.name}: weights ({', '.join(record.types)}) are dequantised to float32, once, in {folder}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        needed = 4 * sum(map(weight_count, header.tensors))
        if shutil.disk_usage(cache).free < needed:
            raise BadInput(f"Less than {needed // 2**20} MiB are free in {cache} for the weights of {file}; free some.")
        with _locked(cache):
            for unfinished in cache.glob(".new-*"):
                shutil.rmtree(unfinished)
            if not folder.is_dir():
                made = cache / f".new-{folder.name}"
                made.mkdir()
                try:
                    convert(header, made)
                    (made / _RECORD).write_bytes(record.model_dump_json().encode())
                    made.rename(folder)
                finally:
                    shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise BadInput(
            f"The weights of {file} cannot be written to {cache} ({error}); make room, or set XDG_CACHE_HOME."
        ) from error
    return folder


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One conversion at a time, so that an unfinished folder is one whose process was killed."""
    descriptor = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@lru_cache(maxsize=1)
def _digest(file: Path, _changed: int) -> str:
    """SHA-256 (hex) of the file as it was last changed then, which several callers want one after the other."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
