"""Reads the header of a GGUF file: its metadata, and the names, shapes and types of its tensors.

Guarantees: every count, length and offset is checked against the size of the file before it is used, so that a hostile or cut
file costs no more than a sentence; nothing behind the header is read, and no torch is imported.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from events.facts.errors import BadInput
from events.text.safe_text import one_line

SUFFIX: Final = ".gguf"
"""Ending of the names of GGUF files."""
MAX_HEADER_BYTES: Final = 2**27
"""Largest header that is read; those of models have up to 20 MB, most of it vocabulary."""
_VERSIONS: Final = (2, 3)
_MAX_DIMENSIONS: Final = 4
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Formats of the scalar types of metadata, by their numbers in the file; `struct` and numpy read them alike."""
_COUNT: Final = "<I"
_LENGTH: Final = "<Q"
_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies in the file."""

    name: str
    shape: tuple[int, ...]
    """As in torch: rows first."""
    type: str
    """Quantisation type by its name in GGML, such as `Q4_K` or `F32`."""
    offset: int
    """From the start of the file, in bytes."""
    size: int
    """In bytes."""


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    file: Path
    metadata: Mapping[str, Any]
    """Values by key; lists of numbers are arrays of numpy."""
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The family of the model in llama.cpp's words, such as `llama` or `qwen2`."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def types(self) -> dict[str, int]:
        """How many tensors there are of each quantisation type, the most frequent first."""
        return dict(Counter(tensor.type for tensor in self.tensors).most_common())

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key of the model's architecture, such as `block_count`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_header(file: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        BadInput: there is no such file, it is no GGUF file, it is cut or damaged, or the package `gguf` is missing.
    """
    try:
        status = file.stat()
        return _header(file, status.st_size, status.st_mtime_ns)
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"There is no file {file}; check the name of the model.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is no GGUF file that can be read ({one_line(str(error), 200)}); give another.") from error


@lru_cache(maxsize=1)
def _header(file: Path, _size: int, _changed: int) -> GgufHeader:
    """The header of a file of this size and time of change, which several callers want one after the other."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Reader(file, content).header()


class _Reader:
    """Reads values one after the other; each read is checked against the end of the header's part of the file."""

    def __init__(self, file: Path, content: mmap.mmap) -> None:
        self._file = file
        self._content = content
        self._end = min(len(content), MAX_HEADER_BYTES)
        self._at = 0

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise BadInput(f"{self._file} is not a GGUF file: it does not begin with GGUF; give another.")
        version = self._number(_COUNT)
        if version not in _VERSIONS:
            raise BadInput(f"{self._file} is a GGUF file of version {version}, and versions 2 and 3 are read; convert it anew.")
        tensors, pairs = self._number(_LENGTH), self._number(_LENGTH)
        metadata: dict[str, Any] = {}
        for _ in range(self._fitting(pairs, 12)):
            key = self._string()
            if key in metadata:
                raise BadInput(f"{self._file} has the key {one_line(key, 80)} twice; download it again.")
            metadata[key] = self._value(self._number(_COUNT))
        infos = [self._tensor() for _ in range(self._fitting(tensors, 24))]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._damaged()
        start = -(-self._at // alignment) * alignment
        return GgufHeader(self._file, metadata, self._placed(infos, start))

    def _placed(self, infos: list[tuple[str, tuple[int, ...], int, int]], start: int) -> tuple[GgufTensor, ...]:
        try:
            from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
        except ImportError as error:
            raise BadInput(f"To read {self._file}, `pip install 'gasp[gguf]'`.") from error
        if len({name for name, *_ in infos}) < len(infos):
            raise self._damaged()
        tensors = []
        for name, shape, number, offset in infos:
            if number not in {kind.value for kind in GGML_QUANT_SIZES}:
                raise BadInput(f"{self._file} has a tensor of the unknown type {number}; upgrade the package gguf.")
            kind = GGMLQuantizationType(number)
            elements, size = GGML_QUANT_SIZES[kind]
            if shape[-1] % elements:
                raise self._damaged()
            tensor = GgufTensor(name, shape, kind.name, start + offset, math.prod(shape) // elements * size)
            if tensor.offset + tensor.size > len(self._content):
                raise BadInput(f"{self._file} ends before its tensor {one_line(name, 80)} does; download it again.")
            tensors.append(tensor)
        return tuple(tensors)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type number, and offset from the start of all tensors."""
        name, dimensions = self._string(), self._number(_COUNT)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self._damaged()
        shape = struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))
        if not all(shape):
            raise self._damaged()
        return name, shape[::-1], self._number(_COUNT), self._number(_LENGTH)

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise self._damaged()
        kind, count = self._number(_COUNT), self._number(_LENGTH)
        if kind == _STRING:
            return [self._string() for _ in range(self._fitting(count, 8))]
        if kind not in _SCALARS:
            raise self._damaged()
        import numpy as np

        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self._take(self._fitting(count, dtype.itemsize) * dtype.itemsize), dtype)

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        return self._take(self._number(_LENGTH)).decode()

    def _fitting(self, count: int, size: int) -> int:
        """The count, if so many values of at least that size can follow."""
        if count * size > self._end - self._at:
            raise self._damaged()
        return count

    def _take(self, size: int) -> bytes:
        if size > self._end - self._at:
            raise self._damaged()
        self._at += size
        return self._content[self._at - size : self._at]

    def _damaged(self) -> BadInput:
        return BadInput(f"The header of {self._file} is cut, damaged or too long; download the file again.")
