"""The persistent interpreter keeps its limits and its other cells, whatever hostile code in a cell tries."""

import threading
import time

import pytest

from sandbox.interpreter import (
    Result,
    TimeoutException,
)
from tests.sandbox.conftest import alive
from tests.support.processes import wait_until

pytestmark = pytest.mark.docker


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
