"""Everything about the world of a program that another one could have changed: equal before and after, or something leaked."""

import fcntl
import gc
import os
import resource
import signal
import struct
import sys
import time
import warnings


def status(pid):
    """What the kernel says about a process and does not change by itself."""
    wanted = (
        "Uid",
        "Gid",
        "Groups",
        "Threads",
        "NoNewPrivs",
        "Seccomp",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "CapPrm",
        "CapEff",
        "CapBnd",
    )
    with open(f"/proc/{pid}/status") as file:
        return [line.strip() for line in file if line.split(":")[0] in wanted]


def text(path):
    with open(path) as file:
        return file.read()


def lockable(place, *ways):
    """Whether a file can be locked in every way by somebody new."""
    file = os.open(place, *ways)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if ways[0] == os.O_RDWR:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.fcntl(file, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
        return True
    except OSError as error:
        return str(error)
    finally:
        os.close(file)


def opened(fd):
    """What belongs to an open file and not to a descriptor: flags, owner, signal, position, locks."""
    flags = [fcntl.fcntl(fd, what) for what in (fcntl.F_GETFL, fcntl.F_GETOWN, 11)]
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_UN)
    return [*flags, text(f"/proc/self/fdinfo/{fd}").split("mnt_id")[0], "lock" in text(f"/proc/self/fdinfo/{fd}")]


def pipes():
    """How large the pipes are that a user gets who has none."""
    ends = os.pipe()
    try:
        return fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ)
    finally:
        for end in ends:
            os.close(end)


def f():
    scratch = os.statvfs("/tmp")
    return {
        "opened": [opened(fd) for fd in range(3)],
        "lockable": [lockable(*item) for item in (("/dev/null", os.O_RDWR), ("/dev/zero", os.O_RDWR), ("/", 0), ("/tmp", 0))],
        "locks": text("/proc/locks"),
        "groups": [text(f"/proc/{pid}/cgroup") for pid in (1, "self")],
        "pipes": pipes(),
        "touched": [
            os.stat(f"/dev/{name}").st_mtime_ns for name in ("null", "zero", "full", "random", "urandom", "tty", "mqueue")
        ],
        "emptied": os.stat("/tmp").st_mtime_ns,
        "files": [sorted(os.listdir(folder)) for folder in ("/", "/tmp", "/dev", "/gasp/sandbox")],
        "room": [scratch.f_blocks - scratch.f_bfree, scratch.f_files - scratch.f_ffree],
        "mode": os.stat("/tmp").st_mode,
        "mounts": [line.split()[1] for line in text("/proc/mounts").splitlines()],
        "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "status": [status(1), status("self")],
        "limits": [resource.getrlimit(what) for what in range(16)],
        "limits of the server": text("/proc/1/limits"),
        "scores": [text(f"/proc/{pid}/oom_score_adj") for pid in (1, "self")],
        "scheduling": [
            (os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid), sorted(os.sched_getaffinity(pid)))
            for pid in (0, 1)
        ],
        "names": [text(f"/proc/{pid}/comm") for pid in (1, "self")],
        "shared": [text(f"/proc/sysvipc/{kind}") for kind in ("shm", "sem", "msg")],
        "process": [os.getcwd(), os.umask(0), sorted(os.environ.items()), os.getsid(0) == os.getpid()],
        "handlers": [signal.getsignal(number) is signal.SIG_DFL for number in range(1, 32)],
        "interpreter": [
            len(sys.modules),
            sys.path,
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            sys.get_int_max_str_digits(),
            hash("text"),
            gc.get_threshold(),
            len(warnings.filters),
            time.tzname,
            len(vars(__builtins__) if not isinstance(__builtins__, dict) else __builtins__),
        ],
    }
