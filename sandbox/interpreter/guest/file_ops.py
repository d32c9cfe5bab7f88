"""File operations of the interpreter, each in an unprivileged child: one request, one reply.

Guarantees: an operation has the rights of a cell and no more, since it runs as the same user; the size of a reply is bounded.
Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import base64
import errno
import grp
import itertools
import json
import os
import pwd
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.guest.child import write_all
from sandbox.interpreter.guest.cell_execution import REPLIES_FD

MOST_ENTRIES = 10_000
"""A listing with more entries is refused."""
_PATHS = ("path", "old_path", "new_path")
_KINDS = {stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}


def handle_file_request(request: dict[str, Any], home: str) -> None:
    """Perform a request and write the reply: `{value}`, or `{refused, why}`."""
    try:
        arguments = request["with"].items()
        absolute = {name: os.path.join(home, value) if name in _PATHS else value for name, value in arguments}
        reply = {"value": _OPERATIONS[request["do"]](**absolute)}
    except FileNotFoundError as error:
        reply = {"refused": "not_found", "why": str(error)}
    except OSError as error:
        reply = {"refused": "no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "invalid", "why": str(error)}
    except ValueError as error:
        reply = {"refused": "invalid", "why": str(error)}
    write_all(REPLIES_FD, json.dumps(reply).encode())


def _read(path: str, offset: int, size: int) -> dict[str, Any]:
    # Opening a FIFO would wait for its writer, and a device has no end.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ValueError(f"{path} is not a regular file")
    return {"data": base64.b64encode(os.pread(fd, size, offset)).decode()}


def _write(path: str, data: str, offset: int) -> dict[str, Any]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | (0 if offset else os.O_TRUNC), 0o644)
    os.lseek(fd, offset, os.SEEK_SET)
    write_all(fd, base64.b64decode(data))
    return _entry(path)


def _list(path: str, depth: int) -> list[dict[str, Any]]:
    entries = [_entry(inner) for inner in itertools.islice(_walk(path, depth), MOST_ENTRIES + 1)]
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"{path} has more than {MOST_ENTRIES} entries")
    return entries


def _walk(path: str, depth: int) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield entry.path
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, depth - 1)


def _make_dir(path: str) -> bool:
    if os.path.isdir(path):
        return False
    os.makedirs(path)
    return True


def _remove(path: str) -> None:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _rename(old_path: str, new_path: str) -> dict[str, Any]:
    os.makedirs(os.path.dirname(new_path) or ".", exist_ok=True)
    os.rename(old_path, new_path)
    return _entry(new_path)


def _entry(path: str) -> dict[str, Any]:
    status = os.lstat(path)
    return {
        "name": os.path.basename(path.rstrip("/")) or "/",
        "type": _KINDS.get(stat.S_IFMT(status.st_mode), "file"),
        "path": os.path.abspath(path),
        "size": status.st_size,
        "mode": stat.S_IMODE(status.st_mode),
        "permissions": stat.filemode(status.st_mode)[1:],
        "owner": _name_or_number(pwd.getpwuid, status.st_uid),
        "group": _name_or_number(grp.getgrgid, status.st_gid),
        "modified_time": status.st_mtime,
        "symlink_target": os.readlink(path) if stat.S_ISLNK(status.st_mode) else None,
    }


def _name_or_number(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


_OPERATIONS: dict[str, Callable[..., object]] = {
    "read": _read,
    "write": _write,
    "list": _list,
    "exists": os.path.lexists,
    "get_info": _entry,
    "make_dir": _make_dir,
    "remove": _remove,
    "rename": _rename,
}
