"""Files, life and end of the persistent interpreter, the same for asyncio, and what its document promises."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from sandbox import interpreter
from sandbox.engine import engine, owner
from sandbox.host.container import ENVIRONMENT
from sandbox.interpreter import (
    AsyncFilesystem,
    AsyncSandbox,
    FileNotFoundException,
    Filesystem,
    FileType,
    InvalidArgumentException,
    NotEnoughSpaceException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    TimeoutException,
)
from sandbox.interpreter.client import COMMAND, NOT_OFFERED
from tests.docs.test_docs import ROOT, blocks
from tests.sandbox.conftest import SMALL, alive
from tests.support.processes import refuses_on_the_host, wait_until

pytestmark = pytest.mark.docker

DOCUMENT = (ROOT / "docs" / "interpreter.md").read_text()


def of_run(run):
    containers = owner.owned_containers(engine.find_engine().client)
    return [container for container in containers if container.run == run]


# --- files ----------------------------------------------------------------------------------------------------------


def test_text_and_bytes_come_back_as_they_went_in(sandbox):
    data = bytes(range(256)) * 10_000
    assert sandbox.files.write("/home/user/ünï/cödé.txt", "héllo\n\0").path == "/home/user/ünï/cödé.txt"
    assert sandbox.files.read("ünï/cödé.txt") == "héllo\n\0"
    with open(__file__, "rb") as file:
        sandbox.files.write_files(
            [{"path": "big", "data": data}, {"path": "test.py", "data": file}, {"path": "none", "data": ""}]
        )
    assert sandbox.files.read("big", format="bytes") == data
    assert b"".join(sandbox.files.read("big", format="stream")) == data
    assert sandbox.files.read("none") == ""
    assert sandbox.run_code("len(open('big', 'rb').read())").text == "2560000"
    with open(__file__) as file:
        assert sandbox.files.read("test.py") == file.read()
    sandbox.files.write("big", b"short")
    assert sandbox.files.read("big") == "short"


def test_folders_are_listed_made_renamed_and_removed(sandbox):
    files = sandbox.files
    assert files.make_dir("place/deep")
    assert not files.make_dir("place/deep")
    sandbox.run_code("import os\nopen('place/deep/a', 'w').write('abc')\nos.symlink('a', 'place/deep/b')")
    assert [entry.name for entry in files.list("place")] == ["deep"]
    deep, a, b = files.list("place", depth=2)
    assert (deep.type, a.type, b.type) == (FileType.DIR, FileType.FILE, FileType.SYMLINK)
    assert (a.size, a.permissions, a.owner, b.symlink_target) == (3, "rw-r--r--", "nobody", "a")
    assert files.rename("place/deep/a", "elsewhere/c").path == "/home/user/elsewhere/c"
    assert files.exists("elsewhere/c")
    assert not files.exists("place/deep/a")
    files.remove("place")
    assert not files.exists("place")
    assert files.get_info("elsewhere/c").modified_time.year >= 2025


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (lambda files: files.read("nowhere"), FileNotFoundException),
        (lambda files: files.list("nowhere"), FileNotFoundException),
        (lambda files: files.remove("nowhere"), FileNotFoundException),
        (lambda files: files.read("/tmp"), InvalidArgumentException),
        (lambda files: files.read("/dev/zero"), InvalidArgumentException),
        (lambda files: files.read("a\0b"), InvalidArgumentException),
        (lambda files: files.write("/usr/x", "x"), InvalidArgumentException),
        (lambda files: files.write("/proc/1/mem", "x"), InvalidArgumentException),
        (lambda files: files.read("/proc/1/environ"), InvalidArgumentException),
        (lambda files: files.list("/tmp", depth=0), InvalidArgumentException),
        (lambda files: files.write("big", b"x" * (9 << 20)), SandboxException),
    ],
)
def test_what_cannot_be_done_with_files_is_said(sandbox, do, error):
    with pytest.raises(error):
        do(sandbox.files)
    assert alive(sandbox)


def test_full_files_are_told_from_other_errors(sandbox):
    sandbox.files.write("full-0", b"x" * (5 << 20))
    with pytest.raises(NotEnoughSpaceException):
        sandbox.files.write("full-1", b"x" * (5 << 20))
    sandbox.files.remove("full-0")
    sandbox.files.write("full-1", b"x" * (5 << 20))


def test_pipes_and_sparse_giants_do_not_hang_or_flood_the_host(sandbox):
    sandbox.run_code("import os\nos.mkfifo('/tmp/fifo')\nos.symlink('/proc/self/pagemap', '/tmp/giant')")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.read("fifo")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.write("fifo", "x")
    with pytest.raises(SandboxException):
        sandbox.files.read("giant", format="bytes")
    sandbox.run_code("os.unlink('/tmp/fifo'); os.unlink('/tmp/giant')")


# --- life -----------------------------------------------------------------------------------------------------------


def test_kill_removes_the_container_and_ends_what_runs():
    sandbox = Sandbox.create(run="tests-kill", metadata={"for": "me"})
    (container,) = of_run("tests-kill")
    assert container.id.startswith(sandbox.sandbox_id)
    assert not container.orphan
    info = sandbox.get_info()
    assert (info.metadata, info.state, (info.end_at - info.started_at).seconds) == ({"for": "me"}, "running", 300)
    assert Sandbox.connect(sandbox.sandbox_id) is sandbox
    threading.Timer(0.3, sandbox.kill).start()
    with pytest.raises(SandboxNotRunningException, match="killed"):
        sandbox.run_code("import time\ntime.sleep(60)")
    wait_until(lambda: not of_run("tests-kill"))
    assert not sandbox.is_running()
    assert not sandbox.kill()
    with pytest.raises(TimeoutException, match="killed"):
        sandbox.files.read("x")
    with pytest.raises(SandboxNotFoundException):
        Sandbox.connect(sandbox.sandbox_id)


def test_a_sandbox_goes_when_its_time_is_over_whatever_it_does():
    sandbox = Sandbox.create(run="tests-lifetime", timeout=60)
    sandbox.set_timeout(0.7)
    start = time.monotonic()
    with pytest.raises(SandboxNotRunningException):
        sandbox.run_code("import os\nwhile True: print('x' * 1000)", timeout=0)
    assert time.monotonic() - start < 5
    wait_until(lambda: not of_run("tests-lifetime"))
    with pytest.raises(InvalidArgumentException):
        Sandbox.create(timeout=10**6)


def test_two_sandboxes_share_nothing():
    with Sandbox.create(run="tests-two") as first, Sandbox.create(run="tests-two") as other:
        first.run_code("x = 1")
        first.files.write("file", "1")
        assert other.run_code("x").error.name == "NameError"
        assert not other.files.exists("file")
        first.kill()
        assert alive(other)
    wait_until(lambda: not of_run("tests-two"))


OWNER = """
import sys
from sandbox.interpreter import Sandbox
sandbox = Sandbox.create(run="tests-interpreter-owner")
print("up", flush=True)
sandbox.run_code("while True: pass", timeout=0)
"""


def test_nothing_is_left_of_an_owner_that_was_killed():
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            assert len(of_run("tests-interpreter-owner")) == 1
        finally:
            process.kill()
    wait_until(lambda: not of_run("tests-interpreter-owner"))


def test_a_container_that_is_killed_is_an_error_of_the_sandbox_and_not_of_the_code():
    with Sandbox.create(run="tests-lost") as sandbox:
        threading.Timer(0.3, engine.find_engine().client.api.kill, [sandbox.sandbox_id, "KILL"]).start()
        with pytest.raises(SandboxNotRunningException, match="container ended"):
            sandbox.run_code("import time\ntime.sleep(60)")


def test_many_cells_and_files_leave_no_descriptors_behind(sandbox):
    alive(sandbox)
    before = len(os.listdir("/proc/self/fd"))
    inside = "import os\nlen(os.listdir('/proc/self/fd'))"
    first = sandbox.run_code(inside).text
    for number in range(30):
        sandbox.run_code(str(number))
        sandbox.files.exists("x")
        sandbox.restart_code_context("default")
    assert sandbox.run_code(inside).text == first
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernel_refuses_to_start_on_the_host():
    refuses_on_the_host(COMMAND[-1], ENVIRONMENT)


@pytest.mark.parametrize("missing", ["flag", "pid"])
def test_the_kernel_refuses_to_start_in_a_container_of_others(shared, missing):
    api = engine.find_engine().client.api
    second = ["python3.11", "-c", "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"]
    command = [*COMMAND] if missing == "flag" else [*second, *COMMAND]
    environment = {name: value for name, value in ENVIRONMENT.items() if missing != "flag" or name != "GASP_INSIDE"}
    labels = owner.labels("tests-refusal")
    container = api.create_container(shared.get_info().template_id, command, environment=environment, labels=labels)["Id"]
    try:
        api.start(container)
        assert api.wait(container, timeout=60)["StatusCode"] == 78
    finally:
        owner.remove_container(engine.find_engine().client, container)


# --- asyncio --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def background():
    async with await AsyncSandbox.create(run="tests-async", limits=SMALL) as sandbox:
        yield sandbox


async def test_the_same_is_there_for_asyncio(background):
    heard = []

    async def listen(message):
        await asyncio.sleep(0)
        heard.append(message.line)

    await background.run_code("x = 2")
    assert (heard, (await background.run_code("print('hi')\nx", on_stdout=listen)).text) == (["hi\n"], "2")
    await background.files.write("a", b"\xff\x00" * 10**6)
    assert await background.files.read("a", format="bytes") == b"\xff\x00" * 10**6
    pieces = [piece async for piece in await background.files.read("a", format="stream")]
    assert (len(pieces), sum(map(len, pieces))) == (2, 2 * 10**6)
    assert [entry.name for entry in await background.files.list("/home/user")] == ["a"]
    assert await background.is_running()
    with pytest.raises(AttributeError, match="no shell"):
        background.commands.run("ls")


async def test_contexts_run_side_by_side_in_asyncio_and_the_loop_goes_on(background):
    contexts = [await background.create_code_context() for _ in range(3)]
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    ticking = asyncio.create_task(tick())
    start = time.monotonic()
    await asyncio.gather(*(background.run_code("import time\ntime.sleep(0.5)", context=context) for context in contexts))
    assert time.monotonic() - start < 1.2
    assert ticks > 10
    ticking.cancel()


async def test_a_cancelled_call_interrupts_its_cell(background):
    await background.run_code("x = 1\nimport time")
    start = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(background.run_code("time.sleep(60)"), 0.2)
    assert (await background.run_code("x")).text == "1"
    assert time.monotonic() - start < 5


async def test_a_time_limit_raises_in_asyncio_too(background):
    with pytest.raises(TimeoutException, match="kept"):
        await background.run_code("while True: pass", timeout=0.2)
    await background.kill()
    with pytest.raises(SandboxNotRunningException):
        await background.run_code("1")


# --- the document ---------------------------------------------------------------------------------------------------


def test_the_examples_run_and_print_what_they_say(capsys):
    assert len(blocks(DOCUMENT, "python")) == 2
    for code in blocks(DOCUMENT, "python"):
        exec(compile(code, "docs/interpreter.md", "exec"), {})
    assert capsys.readouterr().out == "adding\n6\nIndexError list index out of range\n2\n"


def is_there(name):
    where, _, what = name.rpartition(".")
    both = (interpreter,) if name[0].isupper() else (Sandbox, AsyncSandbox)
    places = {"files": (Filesystem, AsyncFilesystem), "Sandbox": (Sandbox,), "AsyncSandbox": (AsyncSandbox,)}.get(where, both)
    return all(hasattr(place, what) for place in places)


def test_every_name_in_the_table_is_there_or_refused_in_words():
    rows = [line.strip("| ").split(" | ", 1) for line in DOCUMENT.split("| name | here |\n|---|---|\n")[1].splitlines()]
    names = {name: here for row, here in rows for name in re.findall(r"`(\w[\w.]*)`", row)}
    refused = {name for name, here in names.items() if here.startswith("not offered")}
    assert refused == set(NOT_OFFERED)
    assert {name for name in names if not is_there(name)} == refused
