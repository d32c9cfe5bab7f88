"""Whether a program would still print something while its interpreter exits: from open files, finalizers, generators.

An interpreter that exits takes all its modules apart, which takes several times as long as a small program. So only programs
that have left something that could print then exit in this way; all others are ended at once. Stdlib only: this file lies in
the container.
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
"""Flag of types whose objects the garbage collector knows."""
_CODE = {types.GeneratorType: "gi_code", types.CoroutineType: "cr_code", types.AsyncGeneratorType: "ag_code"}
_READERS = (io.FileIO, io.BufferedReader, io.BytesIO, io.StringIO)
"""Files that hold nothing back."""

Streams = tuple[Any, Any, Any]
"""Standard output as text, its buffer, and standard error."""


def standard_streams() -> Streams:
    """The standard streams of a program that is about to begin. What exists by now is not looked at by `may_print_at_exit`."""
    gc.freeze()
    return sys.stdout, sys.stdout.buffer, sys.stderr


def may_print_at_exit(streams: Streams) -> bool:
    """Whether the program has left something that could print while the interpreter exits."""
    for name, stream in (("stdout", streams[0]), ("stderr", streams[2])):
        if (now := getattr(sys, name, None)) is not None and now is not stream:
            return True
    objects = gc.get_objects()
    kinds = set(map(type, objects))
    asked = {kind for kind in kinds if _has_finalizer(kind) or issubclass(kind, (type, weakref.ref))}
    return bool(asked) and any(type(item) in asked and _object_may_print(item) for item in objects)


def flush(streams: Streams) -> None:
    """Write what the program's own standard output holds; an error is nobody's to hear any more."""
    for stream in streams[:2]:
        with contextlib.suppress(Exception):
            stream.flush()


def _has_finalizer(kind: type) -> bool:
    return any("__del__" in vars(base) for base in kind.__mro__)


def _object_may_print(item: Any) -> bool:
    kind = type(item)
    if isinstance(item, type):
        # Objects of a class without fields are unknown to the garbage collector; and a class, too, may have a finalizer.
        return _has_finalizer(kind) or (not item.__flags__ & _HAS_GC and _has_finalizer(item))
    if isinstance(item, weakref.ref):
        call = item.__callback__
        return call is not None and not _is_library_callback(call)
    if kind in _CODE:
        # Without a `try` or a `with` nothing happens when it is closed.
        return bool(getattr(item, _CODE[kind]).co_exceptiontable)
    if kind is io.TextIOWrapper:
        return not item.closed and type(item.buffer) not in _READERS
    return kind not in _READERS


def _is_library_callback(call: Any) -> bool:
    if isinstance(call, types.BuiltinFunctionType):
        return call is not print
    return isinstance(call, types.FunctionType) and call.__globals__.get("__name__") != "__main__"
