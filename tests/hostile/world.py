"""Everything about the world of a program that another one could have changed: equal before and after, or something leaked."""

import gc
import os
import resource
import signal
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


def f():
    scratch = os.statvfs("/tmp")
    return {
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
