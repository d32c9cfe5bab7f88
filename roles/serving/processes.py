"""Finds and kills processes that provably belong to a fleet: descendants of its supervisor, or orphans of a dead one.

Guarantees: no process is killed by its number alone. An orphan belongs to the fleet if it is in the session of the supervisor
that is recorded on disk and works in the fleet's folder, whose name is random; vLLM's engine overwrites its environment with a
new process title, so no marker lasts there.
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

from sandbox.engine.engine import boot_id, process_start_time

PREFIX = "gasp-serve-"
"""Prefix of the folders of fleets, in the machine's folder for temporary files."""
RECORD = "record.json"
"""File in such a folder that names owner and supervisor."""
GRACE_S = 10.0
"""Seconds that servers have to end after SIGTERM; two are usual."""
_SHARED_MEMORY_PREFIX = "vllm_dist_"
"""Workers on a CPU share memory that has the name of their rendezvous file, and that no resource tracker removes."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the kernel's name for it
_TRACKER_S = 3.0
"""Seconds that Python's resource trackers have to remove the shared memory of killed processes and exit."""


def write_record(folder: Path, supervisor: int) -> None:
    """Record that this process owns the folder, and the pid of the supervisor of the processes that will work there."""
    record = {"owner": _identity(os.getpid()), "supervisor": _identity(supervisor), "machine": _machine_identity()}
    (folder / RECORD).write_text(json.dumps(record))


def descendants(root: int) -> set[int]:
    """Every running process below this one; zombies are left out."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX":
            children.setdefault(int(fields[1]), []).append(pid)
    below: set[int] = set()
    unvisited = [root]
    while unvisited:
        pids = children.get(unvisited.pop(), [])
        below.update(pids)
        unvisited.extend(pids)
    return below


def cpu_time_tenths(pids: set[int]) -> int:
    """CPU time of processes, in whole tenths of seconds."""
    ticks = sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid)))
    return 10 * ticks // os.sysconf("SC_CLK_TCK")


def kill_until_gone(alive: Callable[[], set[int]]) -> None:
    """Kill processes until none is alive, resource trackers last."""
    deadline = time.monotonic() + _TRACKER_S
    while pids := alive():
        trackers = {pid for pid in pids if _tracks_resources(pid)} if time.monotonic() < deadline else set()
        for pid in pids - trackers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def clear_folder(folder: Path) -> None:
    """Kill the orphans of a dead supervisor in the folder of its fleet, and remove the folder."""
    try:
        supervisor, _ = json.loads((folder / RECORD).read_text())["supervisor"]
    except FileNotFoundError:
        return
    kill_until_gone(lambda: _orphans_in(folder, supervisor))
    remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove the folder of a fleet after its processes, and the shared memory of these."""
    for file in folder.glob(f"{_SHARED_MEMORY_PREFIX}*"):
        for shared in _SHARED_MEMORY.glob(f"{glob.escape(file.name)}*"):
            shared.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def clear_orphaned_fleets() -> int:
    """Call `clear_folder` for every fleet of this machine and user whose owner is dead; how many there were.

    A supervisor that is still ending its servers is waited for.
    """
    done = 0
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{RECORD}"):
        try:
            record = json.loads(file.read_text())
            foreign = file.parent.lstat().st_uid != os.getuid() or record["machine"] != _machine_identity()
        except (OSError, ValueError, KeyError):
            continue
        if foreign or _is_alive(record["owner"]):
            continue
        deadline = time.monotonic() + GRACE_S + 2 * _TRACKER_S
        while _is_alive(record["supervisor"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not _is_alive(record["supervisor"]):
            clear_folder(file.parent)
            done += 1
    return done


def _orphans_in(folder: Path, session: int) -> set[int]:
    """Processes of the session that work in the folder; a process that reuses the session's number works elsewhere."""
    orphans = set()
    for pid in _all_pids():
        fields = _stat(pid)
        if fields and fields[0] not in "ZX" and int(fields[3]) == session and _cwd(pid) == str(folder):
            orphans.add(pid)
    return orphans


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on: state, parent, group, session, ...; empty if it has ended."""
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


def _is_alive(identity: tuple[int, str]) -> bool:
    pid, started = identity
    return process_start_time(pid) == started


def _machine_identity() -> str:
    """Boot id and pid namespace: process numbers are comparable only within both."""
    return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}"
