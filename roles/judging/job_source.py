"""The harness around a program in the sandbox, where a benchmark says how programs are run.

The text of this file is the first part of a job (`roles.judging.judging_rules`), so it imports the standard library only. The
program shares the process with it: whatever must hold against a hostile program is decided on the host, or is listed in
docs/verdicts.md as not guaranteed. Not responsible for: limits.
"""

import ast
import builtins
import collections
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from types import CodeType, ModuleType
from typing import Any

STARRED = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
    " builtins typing"
).split()
"""Modules whose public names LiveCodeBench imports for every program, in this order; all but the last two also by name."""
HEADER = "".join(
    [f"from {name} import *\n" for name in STARRED]
    + [f"import {name}\n" for name in STARRED[:-2]]
    + ["sys.setrecursionlimit(50000)\n"]
)
"""LiveCodeBench's imports, as source."""
MOST_DIGITS = 50000
"""LiveCodeBench's limit of digits when integers are converted to text."""
ABSENT = ("ipdb", "joblib", "resource", "psutil", "tkinter")
"""Modules that the reliability guard of LiveCodeBench and EvalPlus removes ..."""
REFUSED = {
    "builtins": "quit help",
    "os": "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace unlink"
    " fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    "shutil": "rmtree move chown",
    "subprocess": "Popen",
}
"""... and functions, by module."""


def load_program(source: str, context: str = "", name: str = "") -> ModuleType:
    """Execute a program as a module; harness and program cannot reach each other by name.

    Args:
        source: of the program.
        context: source that runs in the module before it.
        name: of the module, which is then not in `sys.modules`; empty for the module `solution`, which is.
    """
    module = ModuleType(name or "solution")
    namespace = vars(module)
    # The real builtins: those of this file are a copy that the program's changes do not reach.
    namespace["__builtins__"] = builtins
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] in ("events", "sandbox", "solution")]:
        del sys.modules[loaded]
    sys.modules["__main__"] = ModuleType("__main__")
    if not name:
        sys.modules["solution"] = module
    if context:
        exec(compile(context, "context.py", "exec", dont_inherit=True), namespace)  # noqa: S102  # what the container is for
    exec(compile(source, "solution.py", "exec", dont_inherit=True), namespace)  # noqa: S102
    return module


def apply_reliability_guard(source: str, *more: str) -> None:
    """Remove the functions and modules that both benchmarks remove, and more builtins.

    In the benchmarks' processes `multiprocessing`, which needs some of them when it is imported, is imported already.
    """
    if "multiprocessing" in source or "concurrent" in source:
        __import__("multiprocessing")
    for module, names in REFUSED.items():
        # Imported now, so that a later import brings no unguarded functions.
        vars(__import__(module)).update(dict.fromkeys(names.split()))
    vars(builtins).update(dict.fromkeys(more))
    sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]  # None marks a module that cannot be imported


def program_function(source: str, context: str, name: str) -> Callable[..., Any]:
    """A function or class of a program that runs after its context."""
    entry: Callable[..., Any] = vars(load_program(source, context))[name]
    return entry


def evalplus_function(source: str, context: str, name: str) -> Callable[..., Any]:
    """The same with EvalPlus's reliability guard; results are converted to builtin data where possible."""
    apply_reliability_guard(source, "open", "exit")
    return returning_builtins(program_function(source, context, name))


def returning_builtins(entry: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose results are converted to builtin data where possible."""

    def call(*arguments: Any) -> Any:
        result = entry(*arguments)
        try:
            return to_builtin(result)
        except (TypeError, ValueError, OverflowError):
            return result

    return call


def to_builtin(value: Any) -> Any:
    """An equal value of exactly builtin types; methods that a subclass overrides are not called.

    A fraction or a decimal becomes the number that it equals; an iterable that equals no builtin becomes an iterator.

    Raises:
        TypeError: the value is anything else.
    """
    if value is None or type(value) in FINAL:
        return value
    for kind, convert in SCALARS.items():
        if isinstance(value, kind):
            return convert(value)
    for kinds, convert in CONTAINERS.items():
        if isinstance(value, kinds):
            return convert(value)
    exact = to_number(value)
    return iter([to_builtin(item) for item in value]) if exact is None else exact


FINAL = {bool, re.Match, range}
"""Types without subclasses. Some of MBPP's references return matches, of which only the truth value is tested."""
SCALARS: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    collections.UserString: lambda value: str.__str__(value.data),
}
"""Conversion of each scalar type to exactly itself."""
CONTAINERS: dict[Any, Callable[[Any], Any]] = {
    dict: lambda value: {to_builtin(key): to_builtin(item) for key, item in dict.items(value)},
    list: lambda value: [to_builtin(item) for item in list.__iter__(value)],
    tuple: lambda value: tuple([to_builtin(item) for item in tuple.__iter__(value)]),
    set: lambda value: {to_builtin(item) for item in set.__iter__(value)},
    frozenset: lambda value: frozenset([to_builtin(item) for item in frozenset.__iter__(value)]),
    collections.UserList: lambda value: [to_builtin(item) for item in list(value.data)],
    Mapping: lambda value: {to_builtin(key): to_builtin(value[key]) for key in value},
    Set: lambda value: {to_builtin(item) for item in value},
}
"""Conversion of each container type to the builtin that it equals; the first type that fits counts."""


def to_number(value: Any) -> Any:
    """The integer or float that a fraction or a decimal equals; None if there is none, or it is neither.

    The types are looked up in loaded modules only: a program that has not imported them has no such numbers.
    """
    fraction = getattr(sys.modules.get("fractions"), "Fraction", None)
    decimal = getattr(sys.modules.get("decimal"), "Decimal", None)
    if decimal is not None and isinstance(value, decimal):
        if decimal.is_infinite(value):
            return float("-inf" if decimal.is_signed(value) else "inf")
        ratio = (0, 0) if decimal.is_nan(value) else decimal.as_integer_ratio(value)
    elif fraction is not None and isinstance(value, fraction):
        ratio = fraction.as_integer_ratio(value)
    else:
        return None
    numerator, denominator = ratio
    if denominator in (0, 1):
        return numerator if denominator else None
    quotient = numerator / denominator
    return quotient if quotient.as_integer_ratio() == ratio else None


# --- a benchmark's own checks ---------------------------------------------------------------------------------------


def check_runner(
    source: str, context: str, entry: str, checks: list[str], token: str, *, official: bool
) -> Callable[[int], str]:
    """A function that runs the check with a number, and returns the token if the check passes.

    Args:
        source: of the program.
        context: source that runs before it.
        entry: name of the function that the checks call.
        checks: sources of the checks.
        token: random text that the program does not know.
        official: whether EvalPlus's reliability guard applies.
    """
    # Everything that decides about a check is compiled, copied or bound here, before the program runs and can change it.
    compiled = [compile(check, f"check {number}", "exec", dont_inherit=True) for number, check in enumerate(checks)]
    builtin = dict(vars(builtins))
    modules = _pristine_modules(compiled)
    set_trace, set_profile = sys.settrace, sys.setprofile

    def import_pristine(name: str, *more: Any) -> Any:
        return modules[name] if name in modules else builtin["__import__"](name, *more)

    if official:
        apply_reliability_guard(source, "open", "exit")
    program = load_program(source, context)
    if entry not in vars(program):
        raise NameError(f"the program defines no {entry}")
    function = vars(program)[entry]

    def candidate(*arguments: Any, **keywords: Any) -> Any:
        try:
            return to_builtin(function(*arguments, **keywords))
        finally:
            # A tracer that the program has installed could step into the check.
            set_trace(None)
            set_profile(None)

    def run(number: int) -> str:
        names = {name: value for name, value in vars(program).items() if name not in builtin}
        names |= {"__builtins__": {**builtin, "__import__": import_pristine}, "__name__": "checks"}
        names |= {"candidate": candidate, entry: candidate}
        set_trace(None)
        set_profile(None)
        try:
            exec(compiled[number], names)  # noqa: S102
        except AssertionError:
            return ""
        return token

    return run


def _pristine_modules(codes: list[CodeType]) -> dict[str, ModuleType]:
    """Copies of the modules that checks may import, made before the program can change them."""
    copies: dict[str, ModuleType] = {}
    for name in sys.stdlib_module_names & _names(codes):
        copies[name] = ModuleType(name)
        vars(copies[name]).update(vars(__import__(name)))
    return copies


def _names(codes: Iterable[Any]) -> set[str]:
    """All names in code objects, those of inner functions included."""
    names: set[str] = set()
    for code in codes:
        if isinstance(code, CodeType):
            names |= {*code.co_names} | _names(code.co_consts)
    return names


# --- LiveCodeBench --------------------------------------------------------------------------------------------------


def program_method(source: str, context: str, name: str) -> Callable[..., Any]:
    """A method of class `Solution`, with LeetCode's usual imports; a new object for every call."""
    cls = vars(load_program(source, f"{HEADER}\n{context}"))["Solution"]
    return lambda *arguments: getattr(cls(), name)(*arguments)  # noqa: PLW0108  # the object is new for every call


def livecodebench_method(source: str, context: str, name: str) -> Callable[..., Any]:
    """The same as LiveCodeBench's checker calls it: imports and program are one source, and one object serves all calls."""
    apply_reliability_guard(source)
    sys.set_int_max_str_digits(MOST_DIGITS)
    program = load_program(f"{HEADER}\n{context}\n\n{source}", name="tmp_sol")
    return returning_builtins(getattr(program.Solution() if "class Solution" in source else program, name))


def run_livecodebench_program(source: str, context: str) -> None:
    """Run a program as LiveCodeBench's checker does: as the body of a function, with fake standard streams.

    Only what goes through the fake standard output is printed. The real streams, which a program finds by their number or got
    before they were replaced, lead nowhere.
    """
    text, printed, own_pid = sys.stdin.buffer.read().decode("utf-8", "replace"), io.StringIO(), os.getpid()
    real_stdout = os.dup(1)
    os.ftruncate(0, 0)
    os.dup2(2, 1)
    # The checker is a forked process, whose original standard input is closed.
    sys.stdin.close()
    sys.stdin = os.fdopen(0, closefd=False)
    apply_reliability_guard(source)
    sys.set_int_max_str_digits(MOST_DIGITS)
    wrapped = _as_function(source, context)
    body = vars(load_program(wrapped, name="tmp_sol"))["wrapped_function"]
    if "class Solution" in wrapped:
        raise AttributeError("LiveCodeBench's checker takes a program with a class Solution for one of LeetCode's")
    # As in the checker, it cannot be closed.
    printed.close = lambda x: 1  # type: ignore[method-assign,misc,assignment]  # a method is replaced
    with _fake_streams(text, printed), contextlib.suppress(SystemExit):
        body()
    if os.getpid() == own_pid:
        output = memoryview(printed.getvalue().encode("utf-8", "replace"))
        while output:
            output = output[os.write(real_stdout, output) :]
    # The checker has its verdict by now, whatever threads and exit handlers go on to do.
    os._exit(0)


@contextlib.contextmanager
def _fake_streams(text: str, printed: io.StringIO) -> Any:
    """Replace the standard streams and `open` as the checker does, for as long as a program runs."""
    stdin, stdout, opened = sys.stdin, sys.stdout, builtins.open
    lines = iter(text.split("\n"))
    # A bug of the checker, kept: it patches the stream that a top-level import has bound, not the one that it puts in place.
    stdin.read = lambda *_: text  # type: ignore[method-assign]  # as the checker does
    stdin.readline = lambda *_: next(lines)  # type: ignore[method-assign]  # the same
    stdin.readlines = lambda *_: text.split("\n")  # type: ignore[method-assign]  # the same
    sys.stdin, sys.stdout = FakeStdin(text), printed
    builtins.open = lambda *_, **__: io.StringIO(text)  # type: ignore[assignment]  # the same
    try:
        yield
    finally:
        sys.stdin, sys.stdout, builtins.open = stdin, stdout, opened


def _as_function(source: str, context: str) -> str:
    """The top-level imports, then all else as a function; the source itself where that cannot be written out."""
    try:
        body = ast.parse(source).body
        last = body[-1] if body else None
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = body[:-1] + last.body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        (function,) = ast.parse("def wrapped_function(): pass").body
        function.body = [node for node in body if node not in imports]  # type: ignore[attr-defined]  # it is a function
        return "\n".join((HEADER, context, *map(ast.unparse, imports), ast.unparse(function)))
    except Exception:
        return source


class FakeStdin:
    """The checker's `sys.stdin` while the program runs; it cannot be iterated over."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = io.StringIO(text)
        self.buffer = FakeStdinBuffer(text.encode())

    def read(self, *_: Any) -> str:
        """The whole text at each call."""
        return self._text

    def readline(self, *limit: Any) -> str:
        """The next line with its end; empty after the last."""
        return self._lines.readline(*limit)

    def readlines(self, *_: Any) -> list[str]:
        """All lines without their ends at each call."""
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        """Everything else is as in the text stream that `readline` reads."""
        return getattr(self._lines, name)


class FakeStdinBuffer:
    """The checker's `sys.stdin.buffer`: the whole input, or its first line, at each call."""

    def __init__(self, text: bytes) -> None:
        self.read = lambda *_: text
        self.readline = lambda *_: text.split(b"\n")[0] + b"\n"
