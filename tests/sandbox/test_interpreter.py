"""The persistent interpreter on the real engine: what users of hosted interpreters count on, and what hostile code may try."""

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
    Execution,
    FileNotFoundException,
    Filesystem,
    FileType,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    Result,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    TimeoutException,
)
from sandbox.interpreter.client import COMMAND, LIMITS, NOT_OFFERED
from tests.docs.test_docs import ROOT, blocks
from tests.support.processes import wait_until

pytestmark = pytest.mark.docker

DOCUMENT = (ROOT / "docs" / "interpreter.md").read_text()
SMALL = LIMITS.model_copy(update={"memory_mb": 128, "output_kb": 64, "scratch_mb": 8, "file_mb": 8, "processes": 16})


@pytest.fixture(scope="module")
def shared():
    with Sandbox.create(limits=SMALL, run="tests-interpreter", envs={"GREETING": "hello"}) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared):
    """Whatever the test before did: an empty namespace and an empty folder."""
    shared.restart_code_context("default")
    for entry in shared.files.list("/tmp"):
        shared.files.remove(entry.path)
    return shared


def of_run(run):
    found = engine.find_engine()
    return [item for item in owner.owned_containers(found.client) if item.run == run]


def alive(sandbox):
    return sandbox.run_code("1 + 1").text == "2"


# --- cells ----------------------------------------------------------------------------------------------------------


def test_state_is_kept_between_cells(sandbox):
    sandbox.run_code("import math\nx = 20\ndef double(n): return 2 * n")
    execution = sandbox.run_code("y = double(x) + math.gcd(4, 6)\ny")
    assert (execution.text, execution.error) == ("42", None)


def test_only_the_last_expression_is_the_result(sandbox):
    assert sandbox.run_code("1\n2\n3").text == "3"
    assert sandbox.run_code("x = 3").results == []
    assert sandbox.run_code("None").results == []
    assert sandbox.run_code("").results == []
    assert sandbox.run_code("if True:\n    3").text is None


def test_cells_are_counted(sandbox):
    first, second = sandbox.run_code("1").execution_count, sandbox.run_code("2").execution_count
    assert second == first + 1


def test_printed_text_is_in_the_logs_by_stream(sandbox):
    execution = sandbox.run_code("import sys\nprint('a', 'b')\nprint('é', file=sys.stderr)\nprint('c', end='')")
    assert "".join(execution.logs.stdout) == "a b\nc"
    assert execution.logs.stderr == ["é\n"]


def test_output_comes_while_the_cell_runs(sandbox):
    moments, order = [], []
    code = "import time\nfor n in range(3):\n    print(n)\n    time.sleep(0.15)\nprint('.', end='')\ntime.sleep(0.15)\n'end'"
    sandbox.run_code(
        code,
        on_stdout=lambda message: (moments.append(time.monotonic()), order.append(message.line)),
        on_result=lambda result: (moments.append(time.monotonic()), order.append(result.text)),
    )
    assert order == ["0\n", "1\n", "2\n", ".", "'end'"]
    assert moments[3] - moments[0] > 0.3
    assert moments[4] - moments[3] > 0.1


def test_listeners_hear_of_errors_and_of_standard_error(sandbox):
    heard = []
    sandbox.run_code("import sys\nsys.stderr.write('oh')\n1 / 0", on_stderr=heard.append, on_error=heard.append)
    assert (heard[0].line, heard[0].error, heard[0].timestamp > 10**18) == ("oh", True, True)
    assert (heard[1].name, heard[1].value) == ("ZeroDivisionError", "division by zero")


def test_values_show_themselves_in_every_form_that_they_have(sandbox):
    code = """
class Rich:
    def __repr__(self): return 'rich'
    def _repr_html_(self): return '<b>rich</b>'
    def _repr_png_(self): return b'\\x89PNG', {'width': 1}
    def _repr_json_(self): return {'a': [1]}
    def _repr_svg_(self): return None
display(Rich(), 7)
Rich()
"""
    shown, seven, main = sandbox.run_code(code).results
    assert shown.formats() == ["text", "html", "png", "json"]
    assert (main["html"], main.png, main.json, main.is_main_result) == ("<b>rich</b>", "iVBORw==", {"a": [1]}, True)
    assert (seven.text, seven.is_main_result, shown.is_main_result) == ("7", False, False)


def test_an_exception_has_a_traceback_of_the_cells_frames_only(sandbox):
    sandbox.run_code("def f(x):\n    return 1 // x")
    error = sandbox.run_code("import functools\nfunctools.reduce(lambda a, b: f(a), [0, 0])").error
    assert (error.name, error.value) == ("ZeroDivisionError", "integer division or modulo by zero")
    assert error.traceback.startswith('Traceback (most recent call last):\n  File "<cell ')
    assert "return 1 // x" in error.traceback
    assert "/gasp/" not in error.traceback


def test_a_cell_that_does_not_compile_does_nothing(sandbox):
    error = sandbox.run_code("x = 1\nreturn x").error
    assert error.name == "SyntaxError"
    assert "return x" in error.traceback
    assert sandbox.run_code("x").error.name == "NameError"


@pytest.mark.parametrize("code", ["f(", "\0", "x = '\ud800'", "(" * 500])
def test_what_is_not_python_is_an_error_of_the_cell(sandbox, code):
    assert sandbox.run_code(code).error.name in ("SyntaxError", "ValueError", "UnicodeEncodeError", "MemoryError")
    assert alive(sandbox)


def test_await_works_at_the_top_and_so_does_asyncio_run(sandbox):
    sandbox.run_code("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x")
    assert sandbox.run_code("y = await f(2)\nawait f(y + 1)").text == "3"
    assert sandbox.run_code("asyncio.run(f(4))").text == "4"
    assert 'File "<cell ' in sandbox.run_code("await f(1 / 0)").error.traceback


SLOWLY = "import asyncio\nseen = []\nasync def f(x):\n    await asyncio.sleep(0.05)\n    seen.append(x)\n    return x"


def test_a_task_can_be_started_in_any_cell_and_goes_on_between_cells(sandbox):
    sandbox.run_code(SLOWLY)
    assert sandbox.run_code("t = asyncio.create_task(f(3))").error is None
    wait_until(lambda: sandbox.run_code("seen").text == "[3]")
    assert sandbox.run_code("await t").text == "3"
    sandbox.run_code("t = asyncio.create_task(f(4)); u = asyncio.ensure_future(f(5))")
    assert sandbox.run_code("await asyncio.gather(t, u)").text == "[4, 5]"


def test_a_cell_that_started_a_task_may_run_another_loop_all_the_same(sandbox):
    sandbox.run_code(SLOWLY)
    assert sandbox.run_code("t = asyncio.create_task(f(1)); asyncio.run(f(2)); u = asyncio.create_task(f(3))").error is None
    assert sandbox.run_code("await asyncio.gather(t, u)").text == "[1, 3]"
    assert sandbox.run_code("asyncio.get_event_loop().run_until_complete(f(4))").text == "4"
    assert sandbox.run_code("asyncio.get_event_loop().close()").error is None
    assert sandbox.run_code("await f(5)").text == "5"


def test_a_task_has_its_first_turn_in_its_cell_and_its_failure_ends_nothing(sandbox):
    sandbox.run_code(SLOWLY)
    first = sandbox.run_code(
        "async def loud():\n    print('on it')\n    raise ValueError('no')\nt = asyncio.create_task(loud())"
    )
    assert "".join(first.logs.stdout) == "on it\n"
    assert sandbox.run_code("await t").error.name == "ValueError"
    sandbox.run_code("async def leave():\n    await asyncio.sleep(0)\n    raise SystemExit\nt = asyncio.create_task(leave())")
    assert alive(sandbox)


def test_a_task_that_blocks_between_cells_is_interrupted_for_the_next_one(sandbox):
    sandbox.run_code(SLOWLY)
    block = "async def block():\n    await asyncio.sleep(0.01)\n    open('blocking', 'w').close()\n    while True: pass"
    sandbox.run_code(f"{block}\nt = asyncio.create_task(block())")
    wait_until(lambda: sandbox.files.exists("blocking"))
    with pytest.raises(TimeoutException, match="kept"):
        sandbox.run_code("1", timeout=0.5)
    assert sandbox.run_code("seen").text == "[]"


def test_classes_of_one_cell_pickle_in_the_next(sandbox):
    sandbox.run_code("import pickle\nclass A:\n    pass")
    assert sandbox.run_code("type(pickle.loads(pickle.dumps(A()))) is A").text == "True"


def test_environment_variables_last_for_the_sandbox_or_for_one_cell(sandbox):
    code = "import os\nos.environ.get('GREETING'), os.environ.get('NAME')"
    assert sandbox.run_code(code, envs={"NAME": "you"}).text == "('hello', 'you')"
    assert sandbox.run_code(code).text == "('hello', None)"


def test_an_execution_is_json_for_those_who_keep_it(sandbox):
    assert '"text": "2"' in sandbox.run_code("print(1)\n2").to_json()
    assert Execution().to_json() == '{"results": [], "logs": "{\\"stdout\\": [], \\"stderr\\": []}", "error": null}'


def test_other_languages_and_unknown_contexts_are_refused_in_words(sandbox):
    with pytest.raises(InvalidArgumentException, match="only Python"):
        sandbox.run_code("1", language="r")
    context = sandbox.create_code_context()
    with pytest.raises(InvalidArgumentException, match="both"):
        sandbox.run_code("1", language="python", context=context)
    sandbox.remove_code_context(context)
    with pytest.raises(NotFoundException, match=context.id):
        sandbox.run_code("1", context=context)


@pytest.mark.parametrize("name", ["commands", "pause", "get_host", "nonsense"])
def test_what_is_not_offered_says_so(sandbox, name):
    with pytest.raises(AttributeError, match=f"A sandbox has no {name}"):
        getattr(sandbox, name)
    with pytest.raises(InvalidArgumentException, match="no network"):
        Sandbox.create(allow_internet_access=True)


# --- contexts -------------------------------------------------------------------------------------------------------


def test_contexts_share_files_and_nothing_else(sandbox):
    one, other = sandbox.create_code_context(), sandbox.create_code_context(cwd="/")
    try:
        sandbox.run_code("x = 1\nopen('/home/user/shared', 'w').write('s')", context=one)
        assert sandbox.run_code("x", context=other).error.name == "NameError"
        assert sandbox.run_code("import os\nopen('/home/user/shared').read(), os.getcwd()", context=other).text == "('s', '/')"
        assert [context.id for context in sandbox.list_code_contexts()] == ["default", one.id, other.id]
        sandbox.restart_code_context(one)
        assert sandbox.run_code("x", context=one).error.name == "NameError"
    finally:
        sandbox.remove_code_context(one)
        sandbox.remove_code_context(other.id)


def test_cells_of_two_contexts_run_side_by_side_and_those_of_one_in_turn(sandbox):
    context = sandbox.create_code_context()
    nap = "import time\nstart = time.monotonic()\ntime.sleep(0.3)\nprint(start, time.monotonic())"
    spans = {}

    def run(name, where):
        spans[name] = tuple(map(float, "".join(sandbox.run_code(nap, context=where).logs.stdout).split()))

    threads = [threading.Thread(target=run, args=job) for job in [("a", None), ("b", None), ("c", context)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.remove_code_context(context)
    first, second = sorted([spans["a"], spans["b"]])
    assert first[1] <= second[0]
    assert spans["c"][0] < first[1]


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_cell_that_runs_too_long_is_interrupted_and_keeps_its_variables(sandbox):
    sandbox.run_code("x = 5")
    heard = []
    start = time.monotonic()
    with pytest.raises(TimeoutException, match="variables are kept"):
        sandbox.run_code("print('on it')\nwhile True: pass", timeout=0.2, on_stdout=heard.append)
    assert time.monotonic() - start < 2
    assert heard[0].line == "on it\n"
    assert sandbox.run_code("x").text == "5"


def test_a_cell_that_cannot_be_interrupted_loses_its_process(sandbox):
    sandbox.run_code("x = 5")
    with pytest.raises(TimeoutException, match="variables are lost"):
        sandbox.run_code(
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass", timeout=0.2
        )
    assert sandbox.run_code("x").error.name == "NameError"


def test_a_listener_that_raises_ends_the_cell(sandbox):
    def listener(_):
        raise KeyError("mine")

    start = time.monotonic()
    with pytest.raises(KeyError, match="mine"):
        sandbox.run_code("import time\nx = 1\nprint(1)\ntime.sleep(20)", on_stdout=listener)
    assert sandbox.run_code("x").text == "1"
    assert time.monotonic() - start < 5


# --- hostile code ---------------------------------------------------------------------------------------------------


def test_an_allocation_beyond_the_limit_is_a_memory_error_and_the_variables_stay(sandbox):
    sandbox.run_code("x = 5")
    assert sandbox.run_code("'x' * 10**9").error.name == "MemoryError"
    assert sandbox.run_code("x").text == "5"


def test_memory_of_many_processes_is_limited_by_the_container(sandbox):
    code = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = os.urandom(100 << 20)\n        time.sleep(60)\nx = os.urandom(90 << 20)\ntime.sleep(1)"
    sandbox.run_code(code)
    assert alive(sandbox)


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        ("import os\nos._exit(3)", "exit code 3"),
        ("import os\nos.kill(os.getpid(), 9)", "signal 9"),
        ("import os\nos.kill(os.getpid(), 40)", "signal 40"),
        ("import ctypes\nctypes.string_at(0)", "signal 11"),
        ("import os, time\nos.close(3)\ntime.sleep(5)", "signal 9"),
        ("import os\nos.write(3, b'\\xff' * 100)\nos.read(4, 1)", "signal 9"),
    ],
)
def test_a_process_that_ends_is_an_error_of_the_cell_and_the_next_starts_afresh(sandbox, ending, cause):
    sandbox.run_code("x = 5")
    error = sandbox.run_code(f"print('last words')\n{ending}", timeout=5).error
    assert error.name == "ProcessDied"
    assert cause in error.value
    assert sandbox.run_code("x").error.name == "NameError"


def test_a_process_that_ends_between_two_cells_is_told_with_the_next(sandbox):
    sandbox.run_code("import os, threading\nthreading.Timer(0.1, os._exit, [3]).start()")
    time.sleep(0.4)
    assert "exit code 3" in sandbox.run_code("1").logs.stderr[0]


@pytest.mark.parametrize("code", ["exit()", "import sys\nsys.exit(2)", "raise SystemExit", "raise KeyboardInterrupt"])
def test_leaving_is_an_error_and_the_variables_stay(sandbox, code):
    sandbox.run_code("x = 5")
    assert sandbox.run_code(code).error.name in ("SystemExit", "KeyboardInterrupt")
    assert sandbox.run_code("x").text == "5"


def test_a_fork_bomb_ends_with_its_cell_and_leaves_room(sandbox):
    sandbox.run_code("x = 5")
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    with pytest.raises(TimeoutException):
        sandbox.run_code(bomb, timeout=0.5)
    wait_until(lambda: alive(sandbox) and sandbox.files.exists("/tmp"), seconds=5)


def test_a_fork_that_comes_to_the_end_of_its_cell_takes_no_further_cell(sandbox):
    sandbox.run_code("import os\npid = os.getpid()\nfor _ in range(3): os.fork()")
    assert sandbox.run_code("os.getpid() == pid").text == "True"


def test_a_daemon_dies_with_its_context(sandbox):
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)\nos.wait()"
    sandbox.run_code(code)
    count = "import os\nlen([name for name in os.listdir('/proc') if name.isdigit()])"
    assert sandbox.run_code(count).text == "3"
    sandbox.restart_code_context("default")
    assert sandbox.run_code(count).text == "2"


def test_a_context_that_dies_while_it_is_removed_harms_no_other(sandbox):
    for number in range(20):
        context = sandbox.create_code_context()
        sandbox.run_code(f"import os, threading\nthreading.Timer({number} / 10000, os._exit, [1]).start()", context=context)
        sandbox.remove_code_context(context)
    assert alive(sandbox)


def test_output_beyond_the_limit_is_dropped_and_what_follows_is_not(sandbox):
    execution = sandbox.run_code("for _ in range(300): print('x' * 1000)\n1 / 0")
    assert len("".join(execution.logs.stdout)) == 64 << 10
    assert execution.logs.stderr == ["[output beyond 64 KiB was dropped]\n"]
    assert execution.error.name == "ZeroDivisionError"
    assert alive(sandbox)


def test_a_result_beyond_the_limit_is_cut(sandbox):
    text = sandbox.run_code("'x' * 10**6").text
    assert text.startswith("'xxx")
    assert text.endswith("(cut)")
    assert sandbox.run_code("for _ in range(10**4): display('y' * 100)").logs.stderr == ["[output beyond 64 KiB was dropped]\n"]


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\x00')",
        "print('\\ud800')",
        "'\\ud800'",
        "class A(Exception):\n    def __str__(self): raise SystemExit\nraise A",
        "class A:\n    def __repr__(self): return '\\ud800\\0'\nA()",
        "class A:\n    def __repr__(self): raise KeyError\nA()",
        "class A:\n    def _repr_html_(self): return 3\nA()",
        "class A:\n    def _repr_json_(self): return object()\nA()",
        "raise type('\\ud800', (Exception,), {})('\\udfff')",
        "import sys\nsys.stdout.close()\nsys.stderr = None",
        "import sys\nsys.stdout = 3",
        "import sys\ndel sys.stdout, sys.modules['json']",
        "import builtins\nbuiltins.repr = builtins.len = builtins.isinstance = None",
        "def f(): f()\nf()",
        "import sys\nsys.setrecursionlimit(10**5)\ndef f(): return f()\nf()",
    ],
)
def test_odd_values_and_broken_streams_harm_nobody(sandbox, code):
    execution = sandbox.run_code(code, timeout=60)
    for text in (*execution.logs.stdout, execution.text or "", execution.error.traceback if execution.error else ""):
        text.encode()
    sandbox.restart_code_context("default")
    assert alive(sandbox)


def test_a_closed_stdout_is_open_again_in_the_next_cell(sandbox):
    sandbox.run_code("import sys\nsys.stdout.close()")
    assert sandbox.run_code("print('here')").logs.stdout == ["here\n"]


def test_closing_the_descriptors_of_output_ends_output_and_not_the_cell(sandbox):
    assert sandbox.run_code("import os\nos.close(1)\nos.close(2)\n7").text == "7"
    assert alive(sandbox)


FORGED = """
import json, os, struct
def forge(message):
    body = json.dumps(message).encode()
    os.write(3, struct.pack('!I', len(body)) + body)
"""


def test_forged_messages_make_nothing_but_results_of_the_forger(sandbox):
    other = sandbox.create_code_context()
    sandbox.run_code(FORGED)
    messages = [
        {"kind": "result", "text": 3, "html": ["x"], "main": "yes", "__class__": "Result"},
        {"kind": "lifetime"},
        [],
        None,
    ]
    execution = sandbox.run_code(
        f"for message in {messages!r}: forge(message)\nforge({{'kind': 'result', 'text': 'mine', 'call': 1}})"
    )
    assert execution.results == [Result(), Result(text="mine")]
    assert sandbox.run_code("forge({'kind': 'error'})\n3").error.name == ""
    sandbox.run_code("1", context=other)
    sandbox.remove_code_context(other)
    sandbox.restart_code_context("default")
    assert alive(sandbox)


def test_what_a_thread_prints_between_two_cells_is_nobodys(sandbox):
    code = "import threading, time\ndef talk():\n    for n in range(40):\n        print('n', n)\n        time.sleep(0.02)\nthreading.Thread(target=talk).start()"
    sandbox.run_code(code)
    time.sleep(0.3)
    heard = "".join(sandbox.run_code("time.sleep(0.2)").logs.stdout)
    assert "n 5\n" not in heard
    assert heard.count("\n") >= 3
    time.sleep(0.5)
    assert sandbox.run_code("1").logs.stdout == []


def test_a_process_that_reads_no_cells_holds_up_nobody(sandbox):
    sandbox.run_code(FORGED)
    other = sandbox.create_code_context()
    start = time.monotonic()
    sandbox.run_code(
        "forge({'kind': 'done'})\nimport time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"
    )
    failed = []

    def run():
        with pytest.raises(TimeoutException):
            sandbox.run_code(f"#{'x' * 10**6}", timeout=0.5)
        failed.append(False)

    thread = threading.Thread(target=run)
    thread.start()
    assert sandbox.run_code("1 + 1", context=other).text == "2"
    assert time.monotonic() - start < 3
    thread.join()
    assert failed == [False]
    sandbox.remove_code_context(other)
    assert alive(sandbox)


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
    with Sandbox.create(run="tests-two") as one, Sandbox.create(run="tests-two") as other:
        one.run_code("x = 1")
        one.files.write("file", "1")
        assert other.run_code("x").error.name == "NameError"
        assert not other.files.exists("file")
        one.kill()
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
    done = subprocess.run(
        [sys.executable, "-m", COMMAND[-1]],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.getcwd()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "only as pid 1 of a GASP sandbox container" in done.stderr


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
