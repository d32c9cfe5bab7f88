"""The options that confine a container, in the form of the engine's API.

Guarantees: every container that runs a program is created with these options; no setting loosens them.
Not responsible for: limits of single processes (`guest/child.py`). docs/threat-model.md says what is kept out, and the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from events.facts.errors import SandboxError
from sandbox.runner import Limits

if TYPE_CHECKING:
    import docker

SERVER_MB = 80
"""Memory of the container beyond a job's: the server itself."""
PROFILE = Path(__file__).with_name("seccomp.json")
"""Allow-list of system calls: what Python's standard library needs; everything else is refused."""
MASKED = (
    # Open files, keys, timers and load of the whole machine, other containers included.
    "/proc/buddyinfo /proc/diskstats /proc/interrupts /proc/key-users /proc/keys /proc/latency_stats /proc/locks /proc/mdstat"
    " /proc/pagetypeinfo /proc/pressure /proc/sched_debug /proc/schedstat /proc/slabinfo /proc/softirqs /proc/swaps"
    " /proc/timer_list /proc/timer_stats /proc/vmallocinfo /proc/vmstat /proc/zoneinfo"
    # Its hardware and its kernel.
    " /proc/acpi /proc/asound /proc/config.gz /proc/consoles /proc/driver /proc/fs /proc/iomem /proc/ioports /proc/kallsyms"
    " /proc/kcore /proc/misc /proc/modules /proc/mtrr /proc/partitions /proc/scsi /sys/block /sys/bus /sys/class /sys/dev"
    " /sys/devices/virtual /sys/firmware /sys/hypervisor /sys/kernel /sys/module /sys/power"
).split()
"""Files and folders that look empty in a container; a kernel need not have all of them."""
READ_ONLY = (
    "/proc/bus /proc/irq /proc/sys /proc/sysrq-trigger"
    # What is written there is gone, but the times of access would tell a later program something.
    " /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/random /dev/tty /dev/urandom /dev/zero"
).split()
"""Files and folders that a program cannot change, not even their times."""


def host_config(client: docker.DockerClient, limits: Limits, runtime: str = "") -> dict[str, Any]:
    """The host config of a container: `confinement`, and the kernel's files that it does not see."""
    config: dict[str, Any] = client.api.create_host_config(**confinement(limits, runtime))
    # Otherwise every path in /proc/self/cgroup would contain the container's id.
    return {**config, "CgroupnsMode": "private", "MaskedPaths": MASKED, "ReadonlyPaths": READ_ONLY}


def confinement(limits: Limits, runtime: str = "") -> dict[str, Any]:
    """Arguments for `create_host_config`: no network, no rights, one writable folder, and little of everything else.

    Args:
        limits: of one job; the container has room for that job and the fork server.
        runtime: OCI runtime by the engine's name for it (gVisor's is usually `runsc`); empty for the engine's default.
    """
    memory = f"{limits.memory_mb + limits.scratch_mb + SERVER_MB}m"
    scratch = f"size={limits.scratch_mb}m,nr_inodes={limits.scratch_files},mode=1777,nosuid,nodev,noexec"
    return {
        "runtime": runtime or None,
        "network_mode": "none",
        "ipc_mode": "none",
        "read_only": True,
        "tmpfs": {"/tmp": scratch, "/run": "size=64k,nr_inodes=8,mode=755,nosuid,nodev,noexec"},  # noqa: S108
        "cap_drop": ["ALL"],
        "cap_add": ["SETUID", "SETGID", "KILL"],
        "security_opt": ["no-new-privileges", f"seccomp={PROFILE.read_text()}"],
        # One more than the job's processes: the server.
        "pids_limit": limits.processes + 1,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": 1_000_000_000,
        "auto_remove": True,
        # System V objects and message queues would outlive the program that made them. The seccomp profile refuses their
        # calls as well, but queues can also be made as files in /dev/mqueue.
        "sysctls": {"kernel.shmmni": "0", "kernel.msgmni": "0", "kernel.sem": "0 0 0 0", "fs.mqueue.queues_max": "0"},
        "log_config": {"Type": "none"},
    }


def require_runtime(client: docker.DockerClient, runtime: str) -> None:
    """Check that the engine has a container runtime, the empty name being its default; SandboxError if it has not."""
    runtimes = sorted(client.info()["Runtimes"])
    if runtime and runtime not in runtimes:
        raise SandboxError(
            f"The engine knows no container runtime {runtime!r}, only {', '.join(runtimes)}; "
            "register it in the engine's daemon.json, or leave verify.runtime empty for its default."
        )
