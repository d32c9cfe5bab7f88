"""The persistent interpreter on the real engine: cells and contexts do what users of hosted interpreters count on."""

import threading
import time

import pytest

from sandbox.interpreter import (
    Execution,
    InvalidArgumentException,
    NotFoundException,
    Sandbox,
    TimeoutException,
)
from tests.sandbox.conftest import alive
from tests.support.processes import wait_until

pytestmark = pytest.mark.docker


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
    first, other = sandbox.create_code_context(), sandbox.create_code_context(cwd="/")
    try:
        sandbox.run_code("x = 1\nopen('/home/user/shared', 'w').write('s')", context=first)
        assert sandbox.run_code("x", context=other).error.name == "NameError"
        assert sandbox.run_code("import os\nopen('/home/user/shared').read(), os.getcwd()", context=other).text == "('s', '/')"
        assert [context.id for context in sandbox.list_code_contexts()] == ["default", first.id, other.id]
        sandbox.restart_code_context(first)
        assert sandbox.run_code("x", context=first).error.name == "NameError"
    finally:
        sandbox.remove_code_context(first)
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
