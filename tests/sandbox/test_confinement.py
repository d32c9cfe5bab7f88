"""What containers are held to: what the profile says, what the kernel does, and that honest programs do not notice."""

import ast
import asyncio
import json
import re
import resource
import tomllib

import pytest

from events.facts.errors import SandboxError
from sandbox.engine import engine, owner
from sandbox.host.confinement import PROFILE, confinement
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, Limits
from tests.support.paths import ROOT

RULES = json.loads(PROFILE.read_text())["syscalls"]
ATTACKS = (
    "add_key bpf fanotify_init init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_load keyctl mount mq_open"
    " msgget open_by_handle_at perf_event_open pidfd_getfd process_vm_readv process_vm_writev ptrace reboot request_key semget"
    " setns shmat shmget umount2 unshare userfaultfd"
).split()
UNNEEDED = (
    "accept bind capset chroot clock_settime connect fsopen inotify_init1 landlock_create_ruleset listen mincore mlockall"
    " mount_setattr move_mount open_tree personality recvmsg sched_setaffinity sched_setscheduler seccomp sendmsg"
    " setdomainname sethostname setpriority socket splice syncfs tee timer_create vmsplice"
).split()


def named(name):
    return [rule for rule in RULES if name in rule["names"]]


async def output_of(runner, source, **more):
    (execution,) = await runner.run([Job(source=source, inputs=("",), **more)])
    assert execution.runs[0].status == "ok", execution
    return ast.literal_eval(execution.runs[0].value)


# --- the profile ----------------------------------------------------------------------------------------------------


def test_what_the_profile_does_not_name_is_refused():
    assert json.loads(PROFILE.read_text())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_only_native_calls_are_there_on_either_architecture():
    machines = json.loads(PROFILE.read_text())["archMap"]
    assert {entry["architecture"] for entry in machines} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
    assert all(entry["subArchitectures"] == [] for entry in machines)


@pytest.mark.parametrize("call", ATTACKS)
def test_a_call_that_only_an_attack_makes_ends_the_program(call):
    assert [rule["action"] for rule in named(call)] == ["SCMP_ACT_TRAP"]


@pytest.mark.parametrize("call", UNNEEDED)
def test_a_call_that_no_program_needs_is_not_allowed(call):
    assert all(rule["action"] != "SCMP_ACT_ALLOW" for rule in named(call))


def test_no_call_stands_under_two_actions():
    actions = {}
    for rule in RULES:
        for name in rule["names"]:
            actions.setdefault(name, set()).add(rule["action"])
    assert [name for name, calls in actions.items() if len(calls) > 1] == []


def test_arguments_are_allowed_by_their_exact_value():
    # The kernel looks at half of the register that a filter compares: whatever is "not equal" could be equal in that half.
    assert {entry["op"] for rule in RULES for entry in rule.get("args", [])} == {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"}
    assert {call for rule in RULES if "args" in rule for call in rule["names"]} == {"clone", "ioctl", "prctl", "socketpair"}


def test_nothing_loosens_the_confinement():
    held = confinement(Limits(processes=5, memory_mb=100))
    assert (held["network_mode"], held["ipc_mode"], held["read_only"]) == ("none", "none", True)
    assert held["cap_drop"] == ["ALL"]
    assert "no-new-privileges" in held["security_opt"]
    assert held["pids_limit"] == 6
    assert held["mem_limit"] == held["memswap_limit"]
    assert not {"binds", "devices", "privileged", "pid_mode", "volumes_from", "mounts"} & set(held)


def test_every_claim_of_the_threat_model_names_tests_and_programs_that_exist():
    here = ROOT / "tests"
    tests = {name for path in here.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    programs = {entry["name"] for path in here.glob("hostile/*.toml") for entry in tomllib.loads(path.read_text())["program"]}
    claims = re.findall(r"^\| (.*?) \| (.*) \|$", (here.parent / "docs" / "threat-model.md").read_text(), re.MULTILINE)[1:]
    assert len(claims) > 15
    for claim, proof in claims:
        named = re.findall(r"`(\w+)`", proof), re.findall(r"“(.*?)”", proof)
        assert any(named), claim
        assert (set(named[0]) - tests, set(named[1]) - programs) == (set(), set()), claim


# --- the kernel -----------------------------------------------------------------------------------------------------

STATUS = """
def f():
    def status(pid): return dict(line.split(":\\t") for line in open(f"/proc/{pid}/status").read().splitlines() if ":\\t" in line)
    return [status(1), status("self")]
"""


@pytest.mark.docker
async def test_a_program_has_no_rights_and_the_server_three(runner):
    server, program = await output_of(runner, STATUS)
    setgid_setuid_kill = 1 << 5 | 1 << 6 | 1 << 7
    assert int(server["CapBnd"], 16) == int(server["CapEff"], 16) == setgid_setuid_kill
    assert {int(program[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert program["Gid"].split() == ["65534"] * 4
    (user,) = set(program["Uid"].split())
    assert int(user) > 1000
    assert program["Groups"].split() == []


@pytest.mark.docker
async def test_server_and_program_are_filtered_and_cannot_gain_rights(runner):
    for process in await output_of(runner, STATUS):
        assert process["Seccomp"].strip() == "2"
        assert process["NoNewPrivs"].strip() == "1"


@pytest.mark.docker
async def test_no_mount_but_the_scratch_folder_can_be_written_and_nothing_in_it_run(runner):
    mounts, written = await output_of(
        runner,
        """
import os
def f():
    mounts = [line.split()[1:4:2] for line in open("/proc/mounts")]
    written = []
    for place, _ in mounts:
        try:
            os.close(os.open(place + "/made", os.O_WRONLY | os.O_CREAT))
            written.append(place)
        except OSError: pass
    return mounts, written
""",
    )
    options = {place: set(option.split(",")) for place, option in mounts}
    assert written == ["/tmp"]
    assert "ro" in options["/"]
    assert {"nosuid", "nodev", "noexec"} <= options["/tmp"]
    assert "/dev/shm" not in options


@pytest.mark.docker
async def test_the_kernel_holds_the_container_to_its_memory_and_processes(runner):
    client = engine.connect()
    await output_of(runner, "def f(): return 1")
    container = next(container_entry.id for container_entry in owner.owned_containers(client) if container_entry.run == "tests")
    held = client.api.inspect_container(container)["HostConfig"]
    output = await output_of(
        runner,
        """
import os
def f():
    for path in ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"):
        if os.path.exists(path): memory = int(open(path).read())
    for path in ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"):
        if os.path.exists(path): processes = int(open(path).read())
    return memory, processes
""",
    )
    assert output == (held["Memory"], held["PidsLimit"])
    assert held["MemorySwap"] == held["Memory"]
    assert held["NanoCpus"] == 10**9


@pytest.mark.docker
async def test_no_room_for_system_v_objects_and_message_queues_even_without_the_profile(runner):
    names = ("kernel/shmmni", "kernel/msgmni", "kernel/sem", "fs/mqueue/queues_max")
    source = f"def f(): return [open('/proc/sys/' + name).read().split() for name in {names}]"
    assert await output_of(runner, source) == [["0"], ["0"], ["0", "0", "0", "0"], ["0"]]


HOG = """
import fcntl, os, time
def size():
    ends = os.pipe()
    try: return fcntl.fcntl(ends[1], fcntl.F_GETPIPE_SZ)
    finally: os.close(ends[0]), os.close(ends[1])
def f():
    for _ in range(14):
        if os.fork() == 0:
            try:
                while True: fcntl.fcntl(os.pipe()[1], fcntl.F_SETPIPE_SZ, 1 << 20)
            except OSError: pass
            try:
                while True: os.pipe()  # takes what is too little for a large one
            except OSError: time.sleep(60)
    for _ in range(150):
        if size() < 16 * 4096: break
        time.sleep(0.1)
    time.sleep(2)  # others are measured while nothing is left
    return size()
"""
MODEST = """
import fcntl, os
def f():
    ends = [os.pipe() for _ in range(9)]
    return min(fcntl.fcntl(end[1], fcntl.F_GETPIPE_SZ) for end in ends)
"""


@pytest.mark.docker
async def test_what_one_container_uses_up_is_not_missing_in_another():
    runners = [DockerRunner(Limits(wall_seconds=20), workers=1, run="tests-quota") for _ in range(2)]
    modest = set()
    try:
        for runner in runners:
            await output_of(runner, "def f(): return 1")
        hog = asyncio.create_task(output_of(runners[0], HOG))
        while not hog.done():
            modest.add(await output_of(runners[1], MODEST))
            await asyncio.sleep(0.2)
        hogged = await hog
    finally:
        for runner in runners:
            await runner.close()
    assert modest == {16 * resource.getpagesize()}
    assert hogged < 16 * resource.getpagesize(), "nothing was used up, so nothing is proved"


# --- runtimes -------------------------------------------------------------------------------------------------------


@pytest.mark.docker
async def test_a_runtime_that_the_engine_does_not_know_is_refused_with_those_it_knows():
    runner = DockerRunner(workers=1, run="tests-runtime", runtime="runsc-of-my-own")
    try:
        with pytest.raises(SandboxError, match=r"no container runtime 'runsc-of-my-own', only .*runc.*verify\.runtime"):
            await runner.run([Job(source="def f(): return 1", inputs=("",))])
    finally:
        await runner.close()


@pytest.mark.docker
async def test_containers_are_started_by_the_runtime_that_is_named():
    client = engine.connect()
    name = min(set(client.info()["Runtimes"]) & {"runc", "io.containerd.runc.v2"})
    runner = DockerRunner(workers=1, run="tests-runtime", runtime=name)
    try:
        assert await output_of(runner, "def f(): return 1") == 1
        (container,) = [entry.id for entry in owner.owned_containers(client) if entry.run == "tests-runtime"]
        assert client.api.inspect_container(container)["HostConfig"]["Runtime"] == name
    finally:
        await asyncio.shield(runner.close())


# --- honest programs ------------------------------------------------------------------------------------------------

HONEST = {
    "threads": "import threading, queue\nq = queue.Queue()\nthreading.Timer(0.01, q.put, (7,)).start()\nfound = q.get(timeout=1)",
    "asyncio": "import asyncio\nasync def main():\n    await asyncio.sleep(0.01)\n    return await asyncio.to_thread(len, '1234567')\nfound = asyncio.run(main())",
    "pools of threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(3) as pool: found = sum(pool.map(abs, [-3, 4]))",
    "processes": "import multiprocessing\na, b = multiprocessing.Pipe()\nchild = multiprocessing.Process(target=a.send, args=(7,))\nchild.start()\nfound = b.recv()\nchild.join()",
    "deep recursion in a thread": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(32 << 20)\ndef deep(n): return 7 if n == 0 else deep(n - 1)\nout = []\nt = threading.Thread(target=lambda: out.append(deep(20000)))\nt.start()\nt.join()\nfound = out[0]",
    "temporary files": "import tempfile, os\nwith tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile('w', dir=folder) as file:\n    file.write('1234567')\n    file.flush()\n    os.fsync(file.fileno())\n    found = os.path.getsize(file.name)",
    "copies of folders": "import shutil, os\nos.makedirs('/tmp/a/b')\nopen('/tmp/a/b/c', 'w').write('7')\nshutil.copytree('/tmp/a', '/tmp/z')\nshutil.move('/tmp/z', '/tmp/y')\nfound = int(open('/tmp/y/b/c').read())",
    "locks and memory maps": "import fcntl, mmap\nfile = open('/tmp/f', 'w+b')\nfcntl.flock(file, fcntl.LOCK_EX)\nm = mmap.mmap(-1, 4096)\nm[0] = 7\nfound = m[0]",
    "alarms": "import signal, time\nclass Done(Exception): pass\ndef ring(*_): raise Done\nsignal.signal(signal.SIGALRM, ring)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntry: time.sleep(1)\nexcept Done: found = 7",
    "compression": "import lzma, bz2, gzip, zlib\nfound = {len(m.decompress(m.compress(b'1234567'))) for m in (lzma, bz2, gzip, zlib)}.pop()",
    "hashes, secrets and identifiers": "import hashlib, secrets, uuid\nhashlib.scrypt(b'p', salt=b's', n=2, r=1, p=1)\nuuid.uuid1(), uuid.uuid4()\nfound = len(secrets.token_bytes(7))",
    "clocks": "import time, datetime\ntime.sleep(0.001)\nassert time.process_time() > 0 and time.thread_time() > 0 and datetime.datetime.now().year > 2000\nfound = 7",
    "facts about the machine": "import os, platform, resource, shutil\nos.cpu_count(), os.uname(), os.getloadavg(), os.isatty(0), os.sched_getaffinity(0), os.getpriority(0, 0)\nplatform.platform(), shutil.get_terminal_size(), shutil.disk_usage('/tmp'), resource.getrusage(0)\nfound = 7",
    "databases of the standard library": "import shelve\nwith shelve.open('/tmp/s') as store: store['a'] = 7\nwith shelve.open('/tmp/s') as store: found = store['a']",
    "C": "import ctypes\nfound = ctypes.CDLL(None).abs(-7)",
}


@pytest.mark.docker
@pytest.mark.parametrize("what", HONEST)
async def test_honest_programs_do_not_notice(runner, what):
    source = HONEST[what].replace("\n", "\n    ")
    assert await output_of(runner, f"def f():\n    {source}\n    return found") == 7
