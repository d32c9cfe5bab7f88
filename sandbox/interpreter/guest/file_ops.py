"""What the interpreter's server does with files, each time in a child without rights: one request, one reply.

Law: it can do what a cell can do and nothing more, for it is the same user; a reply has a size that is known before.
Stdlib only: this file lies in the container.
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
"""Entries that one listing may have."""
_PATHS = ("path", "old_path", "new_path")
_KINDS = {stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}


def handle_file_request(request: dict[str, Any], home: str) -> None:
    """Do what a request asks; the reply is `{value}`, or `{refused, why}`."""
    try:
        its = {name: os.path.join(home, item) if name in _PATHS else item for name, item in request["with"].items()}
        reply = {"value": _OPERATIONS[request["do"]](**its)}
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
    found = [_entry(item) for item in itertools.islice(_walk(path, depth), MOST_ENTRIES + 1)]
    if len(found) > MOST_ENTRIES:
        raise ValueError(f"{path} has more than {MOST_ENTRIES} entries")
    return found


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
    found = os.lstat(path)
    return {
        "name": os.path.basename(path.rstrip("/")) or "/",
        "type": _KINDS.get(stat.S_IFMT(found.st_mode), "file"),
        "path": os.path.abspath(path),
        "size": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "permissions": stat.filemode(found.st_mode)[1:],
        "owner": _name_or_number(pwd.getpwuid, found.st_uid),
        "group": _name_or_number(grp.getgrgid, found.st_gid),
        "modified_time": found.st_mtime,
        "symlink_target": os.readlink(path) if stat.S_ISLNK(found.st_mode) else None,
    }


def _name_or_number(find: Any, number: int) -> str:
    try:
        return str(find(number)[0])
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
