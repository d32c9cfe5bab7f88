"""Ends processes that are provably ours: the descendants of a living one, or those that a dead keeper left.

Law: nothing is killed by a number alone. A left process is ours if it is in the session that the keeper named on disk had
made and works in the folder that only we know; vLLM's engine renames itself over its environment, so no mark lasts there.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.engine.engine import process_start_time

PREFIX = "gasp-serve-"
"""Folders of fleets are called so, in the machine's folder for temporary files."""
RECORD = "record.json"
"""In such a folder: who owns it, and who keeps its processes."""
GRACE_S = 10.0
"""Seconds for servers to end politely, which takes them about two."""
_SHARED_MEMORY_PREFIX = "vllm_dist_"
"""Workers on a CPU share memory that is called by the file through which they met, and that no resource tracker knows."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the kernel's name for it
_TRACKER_S = 3.0
"""Seconds for Python's resource trackers, which remove the shared memory of processes that were killed and then end."""


def write_record(folder: Path, keeper: int) -> None:
    """Write down that this process owns the folder and that `keeper` keeps what will run in it."""
    named = {"owner": _identity(os.getpid()), "keeper": _identity(keeper), "where": _machine_identity()}
    (folder / RECORD).write_text(json.dumps(named))


def descendants(root: int) -> set[int]:
    """Every process below this one, the dead that nobody has asked after left out."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    ahead = [root]
    while ahead:
        below = children.get(ahead.pop(), [])
        found.update(below)
        ahead.extend(below)
    return found


def cpu_time_tenths(pids: set[int]) -> int:
    """Whole tenths of seconds of CPU time that processes have taken."""
    ticks = sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid)))
    return 10 * ticks // os.sysconf("SC_CLK_TCK")


def kill_until_gone(alive: Callable[[], set[int]]) -> None:
    """Kill until none is alive, resource trackers last."""
    deadline = time.monotonic() + _TRACKER_S
    while pids := alive():
        trackers = {pid for pid in pids if _tracks_resources(pid)} if time.monotonic() < deadline else set()
        for pid in pids - trackers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def clear_folder(folder: Path) -> None:
    """End what a dead keeper left in a folder of ours, and remove that."""
    try:
        keeper, _ = json.loads((folder / RECORD).read_text())["keeper"]
    except FileNotFoundError:
        return
    kill_until_gone(lambda: _orphans_in(folder, keeper))
    remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours in which nobody works any more, and memory that is called by it."""
    for file in folder.glob(f"{_SHARED_MEMORY_PREFIX}*"):
        for shared in _SHARED_MEMORY.glob(f"{glob.escape(file.name)}*"):
            shared.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def clear_orphaned_fleets() -> int:
    """Do so wherever owner and keeper are dead, on this machine and for this user; how many fleets there were.

    A keeper that is still at it is waited for.
    """
    done = 0
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{RECORD}"):
        try:
            named = json.loads(file.read_text())
            foreign = file.parent.lstat().st_uid != os.getuid() or named["where"] != _machine_identity()
        except (OSError, ValueError, KeyError):
            continue
        if foreign or _is_alive(named["owner"]):
            continue
        deadline = time.monotonic() + GRACE_S + 2 * _TRACKER_S
        while _is_alive(named["keeper"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not _is_alive(named["keeper"]):
            clear_folder(file.parent)
            done += 1
    return done


def _orphans_in(folder: Path, session: int) -> set[int]:
    """Processes of the session that work in the folder; a process that took the number since is in another folder."""
    found = set()
    for pid in _all_pids():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX" and int(fields[3]) == session and _cwd(pid) == str(folder):
            found.add(pid)
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """State, parent, group and session first; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _tracks_resources(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _identity(pid: int) -> tuple[int, str]:
    return pid, process_start_time(pid)


def _is_alive(name: tuple[int, str]) -> bool:
    pid, started = name
    return process_start_time(pid) == started


def _machine_identity() -> str:
    """The machine since it was started, and the container on it: elsewhere a process number means another."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
