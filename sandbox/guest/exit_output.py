"""Decides whether a program could still print while its interpreter exits: from open files, finalizers, generators.

A normal exit takes all modules apart, which takes several times as long as a small program. So only processes whose program has
left something that could print then exit in this way; all others end at once. Standard library only: this file is copied into
the image.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import types
import weakref
from typing import Any

_HAS_GC = 1 << 14
"""Py_TPFLAGS_HAVE_GC: the garbage collector tracks objects of the type."""
_CODE = {types.GeneratorType: "gi_code", types.CoroutineType: "cr_code", types.AsyncGeneratorType: "ag_code"}
_READERS = (io.FileIO, io.BufferedReader, io.BytesIO, io.StringIO)
"""File objects without a buffer to flush."""

Streams = tuple[Any, Any, Any]
"""Standard output as text, its buffer, and standard error."""


def standard_streams() -> Streams:
    """The standard streams of a program that is about to begin; `may_print_at_exit` ignores all objects that exist by now."""
    gc.freeze()
    return sys.stdout, sys.stdout.buffer, sys.stderr


def may_print_at_exit(streams: Streams) -> bool:
    """Whether the program has left objects that could print while the interpreter exits."""
    for name, stream in (("stdout", streams[0]), ("stderr", streams[2])):
        if (current := getattr(sys, name, None)) is not None and current is not stream:
            return True
    objects = gc.get_objects()
    kinds = set(map(type, objects))
    suspects = {kind for kind in kinds if _has_finalizer(kind) or issubclass(kind, (type, weakref.ref))}
    return bool(suspects) and any(type(value) in suspects and _object_may_print(value) for value in objects)


def flush(*streams: Any) -> None:
    """Flush standard streams of a program; errors are ignored, as the program has ended."""
    for stream in streams:
        with contextlib.suppress(BaseException):
            stream.flush()


def _has_finalizer(kind: type) -> bool:
    return any("__del__" in vars(base) for base in kind.__mro__)


def _object_may_print(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, type):
        # The garbage collector does not track objects of a class without fields; and a metaclass may have a finalizer.
        return _has_finalizer(kind) or (not value.__flags__ & _HAS_GC and _has_finalizer(value))
    if isinstance(value, weakref.ref):
        call = value.__callback__
        return call is not None and not _is_library_callback(call)
    if kind in _CODE:
        # Closing a generator runs code only inside of a `try` or a `with`.
        return bool(getattr(value, _CODE[kind]).co_exceptiontable)
    if kind is io.TextIOWrapper:
        return not value.closed and type(value.buffer) not in _READERS
    return kind not in _READERS


def _is_library_callback(call: Any) -> bool:
    if isinstance(call, types.BuiltinFunctionType):
        return call is not print
    return isinstance(call, types.FunctionType) and call.__globals__.get("__name__") != "__main__"
