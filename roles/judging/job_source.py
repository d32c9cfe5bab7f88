"""What stands around an answer in the sandbox where a benchmark says how answers are run.

The text of this file is the beginning of a job (`roles.judging.judging_rules`), so it uses the standard library only and
nothing of ours. The answer shares the process with it: whatever must hold against a hostile answer is decided on the host, or
said in docs/verdicts.md not to hold. It enforces no limits.
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
"""Modules whose public names LiveCodeBench gives every answer, in this order; all but the last two by their own name, too."""
HEADER = "".join(
    [f"from {name} import *\n" for name in STARRED]
    + [f"import {name}\n" for name in STARRED[:-2]]
    + ["sys.setrecursionlimit(50000)\n"]
)
"""What an answer finds there."""
MOST_DIGITS = 50000
"""Digits that LiveCodeBench lets an integer have as text."""
ABSENT = ("ipdb", "joblib", "resource", "psutil", "tkinter")
"""Modules that LiveCodeBench and EvalPlus take away ..."""
REFUSED = {
    "builtins": "quit help",
    "os": "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace unlink"
    " fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir",
    "shutil": "rmtree move chown",
    "subprocess": "Popen",
}
"""... and functions, by the module that has them."""


def defined(source: str, context: str = "", name: str = "") -> ModuleType:
    """The module that an answer is, out of reach of what runs it: neither is there by name for the other.

    Args:
        source: the answer.
        context: code that is run in the module before it.
        name: what the module is called, where nobody finds it by that name; else it is the module `solution`.
    """
    answer = ModuleType(name or "solution")
    space = vars(answer)
    # Not those of this file, which are a copy that the answer's changes do not reach.
    space["__builtins__"] = builtins
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] in ("events", "sandbox", "solution")]:
        del sys.modules[loaded]
    sys.modules["__main__"] = ModuleType("__main__")
    if not name:
        sys.modules["solution"] = answer
    if context:
        exec(compile(context, "context.py", "exec", dont_inherit=True), space)  # noqa: S102  # this is what the container is for
    exec(compile(source, "solution.py", "exec", dont_inherit=True), space)  # noqa: S102
    return answer


def take_away(source: str, *more: str) -> None:
    """Take away what the reliability guard of both benchmarks does, and more builtins.

    `multiprocessing`, which needs some of that when it is imported, is there already in their processes.
    """
    if "multiprocessing" in source or "concurrent" in source:
        __import__("multiprocessing")
    for place, names in REFUSED.items():
        # What a later import would bring is as it would be, since it is imported now.
        vars(__import__(place)).update(dict.fromkeys(names.split()))
    vars(builtins).update(dict.fromkeys(more))
    sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]


def function(source: str, context: str, name: str) -> Callable[..., Any]:
    """A function or class of an answer behind its context, by its name."""
    found: Callable[..., Any] = vars(defined(source, context))[name]
    return found


def evalplus_function(source: str, context: str, name: str) -> Callable[..., Any]:
    """The same as EvalPlus calls it; what it returns is data, if it can be."""
    take_away(source, "open", "exit")
    return giving_data(function(source, context, name))


def giving_data(asked: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose results are exactly builtin data, or else as they are."""

    def call(*given: Any) -> Any:
        result = asked(*given)
        try:
            return plain(result)
        except (TypeError, ValueError, OverflowError):
            return result

    return call


def plain(value: Any) -> Any:
    """The same as exactly builtin data, which equals what the value equals. What a subclass overrides is not asked.

    A fraction or a decimal becomes the number that it equals; what has items but equals no builtin, an iterator of them.

    Raises:
        TypeError: it is anything else.
    """
    if value is None or type(value) in FINAL:
        return value
    for kind, same in SCALARS.items():
        if isinstance(value, kind):
            return same(value)
    for kinds, items in CONTAINERS.items():
        if isinstance(value, kinds):
            return items(value)
    exact = number(value)
    return iter([plain(item) for item in value]) if exact is None else exact


FINAL = {bool, re.Match, range}
"""Types that nobody can derive from; some of MBPP's references return matches, which are asked only whether they are there."""
SCALARS: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    collections.UserString: lambda value: str.__str__(value.data),
}
"""How each kind gives itself, exactly."""
CONTAINERS: dict[Any, Callable[[Any], Any]] = {
    dict: lambda value: {plain(key): plain(item) for key, item in dict.items(value)},
    list: lambda value: [plain(item) for item in list.__iter__(value)],
    tuple: lambda value: tuple([plain(item) for item in tuple.__iter__(value)]),
    set: lambda value: {plain(item) for item in set.__iter__(value)},
    frozenset: lambda value: frozenset([plain(item) for item in frozenset.__iter__(value)]),
    collections.UserList: lambda value: [plain(item) for item in list(value.data)],
    Mapping: lambda value: {plain(key): plain(value[key]) for key in value},
    Set: lambda value: {plain(item) for item in value},
}
"""How each kind gives its items as a builtin that it equals, in the order in which they are asked."""


def number(value: Any) -> Any:
    """The integer or float that a fraction or a decimal is equal to; None where there is none, or it is neither.

    Looked for in modules that are there already: an answer without them has no such numbers.
    """
    fraction = getattr(sys.modules.get("fractions"), "Fraction", None)
    decimal = getattr(sys.modules.get("decimal"), "Decimal", None)
    if decimal is not None and isinstance(value, decimal):
        if decimal.is_infinite(value):
            return float("-inf" if decimal.is_signed(value) else "inf")
        over, under = (0, 0) if decimal.is_nan(value) else decimal.as_integer_ratio(value)
    elif fraction is not None and isinstance(value, fraction):
        over, under = fraction.as_integer_ratio(value)
    else:
        return None
    if under in (0, 1):
        return over if under else None
    near = over / under
    return near if near.as_integer_ratio() == (over, under) else None


# --- a benchmark's own checks ---------------------------------------------------------------------------------------


def checks(source: str, context: str, entry: str, codes: list[str], token: str, *, official: bool) -> Callable[[int], str]:
    """A function that runs the check of a number, and returns the token if it comes to its end.

    Args:
        source: the answer.
        context: what stands before it.
        entry: what the checks call.
        codes: the checks.
        token: what nobody else knows.
        official: whether the answer lacks what EvalPlus takes away.
    """
    compiled = [compile(code, f"check {number}", "exec", dont_inherit=True) for number, code in enumerate(codes)]
    builtin = dict(vars(builtins))
    modules = _copies(compiled)
    untrace, unprofile = sys.settrace, sys.setprofile

    def bring(name: str, *how: Any) -> Any:
        return modules[name] if name in modules else builtin["__import__"](name, *how)

    if official:
        take_away(source, "open", "exit")
    answer = defined(source, context)
    if entry not in vars(answer):
        raise NameError(f"the program defines no {entry}")
    asked = vars(answer)[entry]

    def candidate(*given: Any, **named: Any) -> Any:
        try:
            return plain(asked(*given, **named))
        finally:
            untrace(None)
            unprofile(None)

    def run(number: int) -> str:
        names = {name: value for name, value in vars(answer).items() if name not in builtin}
        names |= {"__builtins__": {**builtin, "__import__": bring}, "__name__": "checks"}
        names |= {"candidate": candidate, entry: candidate}
        untrace(None)
        unprofile(None)
        try:
            exec(compiled[number], names)  # noqa: S102
        except AssertionError:
            return ""
        return token

    return run


def _copies(codes: list[CodeType]) -> dict[str, ModuleType]:
    """The modules that checks may import, as they are before an answer can change them."""
    found: dict[str, ModuleType] = {}
    for name in sys.stdlib_module_names & _names(codes):
        found[name] = ModuleType(name)
        vars(found[name]).update(vars(__import__(name)))
    return found


def _names(codes: Iterable[Any]) -> set[str]:
    """All names in code, that of functions in it, too."""
    found: set[str] = set()
    for code in codes:
        if isinstance(code, CodeType):
            found |= {*code.co_names} | _names(code.co_consts)
    return found


# --- LiveCodeBench --------------------------------------------------------------------------------------------------


def method(source: str, context: str, name: str) -> Callable[..., Any]:
    """A method of class `Solution`, with LeetCode's usual imports; a new object for every call."""
    found = vars(defined(source, f"{HEADER}\n{context}"))["Solution"]
    return lambda *given: getattr(found(), name)(*given)  # noqa: PLW0108  # the object is new for every call


def official_method(source: str, context: str, name: str) -> Callable[..., Any]:
    """The same as LiveCodeBench's checker calls it: imports and answer are one text, and one object is there for all calls."""
    take_away(source)
    sys.set_int_max_str_digits(MOST_DIGITS)
    answer = defined(f"{HEADER}\n{context}\n\n{source}", name="tmp_sol")
    return giving_data(getattr(answer.Solution() if "class Solution" in source else answer, name))


def official_program(source: str, context: str) -> None:
    """Run a program as LiveCodeBench's checker does: as the body of a function, between texts that stand for its streams.

    Only what goes through what stands for standard output is printed. The streams themselves, which a program finds by their
    number or took before they were replaced, lead nowhere.
    """
    given, printed, asked = sys.stdin.buffer.read().decode("utf-8", "replace"), io.StringIO(), os.getpid()
    answer = os.dup(1)
    os.ftruncate(0, 0)
    os.dup2(2, 1)
    # The checker is a process that was forked, whose first standard input is closed.
    sys.stdin.close()
    sys.stdin = os.fdopen(0, closefd=False)
    take_away(source)
    sys.set_int_max_str_digits(MOST_DIGITS)
    wrapped = _as_function(source, context)
    body = vars(defined(wrapped, name="tmp_sol"))["wrapped_function"]
    if "class Solution" in wrapped:
        raise AttributeError("LiveCodeBench's checker takes a program with a class Solution for one of LeetCode's")
    # As the checker has it, it cannot be closed.
    printed.close = lambda x: 1  # type: ignore[method-assign,misc,assignment]
    with _replaced(given, printed), contextlib.suppress(SystemExit):
        body()
    if os.getpid() == asked:
        said = memoryview(printed.getvalue().encode("utf-8", "replace"))
        while said:
            said = said[os.write(answer, said) :]


@contextlib.contextmanager
def _replaced(given: str, printed: io.StringIO) -> Any:
    """The streams as the checker replaces them, and `open`, for as long as a program runs."""
    stdin, stdout, opened = sys.stdin, sys.stdout, builtins.open
    lines = iter(given.split("\n"))
    # The checker means the stream that it puts in place, and changes the one that a top-level import has bound.
    stdin.read = lambda *_: given  # type: ignore[method-assign]
    stdin.readline = lambda *_: next(lines)  # type: ignore[method-assign]
    stdin.readlines = lambda *_: given.split("\n")  # type: ignore[method-assign]
    sys.stdin, sys.stdout = Typed(given), printed
    builtins.open = lambda *_, **__: io.StringIO(given)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdin, sys.stdout, builtins.open = stdin, stdout, opened


def _as_function(source: str, context: str) -> str:
    """The imports of the top level, then all else as a function; the source itself where that cannot be written."""
    try:
        body = ast.parse(source).body
        last = body[-1] if body else None
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = body[:-1] + last.body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        (function,) = ast.parse("def wrapped_function(): pass").body
        function.body = [node for node in body if node not in imports]  # type: ignore[attr-defined]
        return "\n".join((HEADER, context, *map(ast.unparse, imports), ast.unparse(function)))
    except Exception:
        return source


class Typed:
    """Stands for standard input, for those that ask `sys.stdin` while the program runs; it cannot be iterated over."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = io.StringIO(text)
        self.buffer = Bytes(text.encode())

    def read(self, *_: Any) -> str:
        """All of it, however often."""
        return self._text

    def readline(self, *most: Any) -> str:
        """The next line with its end; empty behind the last."""
        return self._lines.readline(*most)

    def readlines(self, *_: Any) -> list[str]:
        """All lines without their ends, however often."""
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        """All else is as in a text, which `readline` goes through."""
        return getattr(self._lines, name)


class Bytes:
    """Stands for standard input as bytes: all of it, or its first line, again and again."""

    def __init__(self, text: bytes) -> None:
        self.read = lambda *_: text
        self.readline = lambda *_: text.split(b"\n")[0] + b"\n"
