"""What stands around an answer in the sandbox where a benchmark says how answers are run.

Law: the text of this file is the beginning of a job (`roles.rules`), so it uses the standard library only and nothing of ours.
The answer shares the process with it: whatever must hold against a hostile answer is decided on the host, or said in
docs/verdicts.md not to hold. It is not for the host, and enforces no limits.
"""

import ast
import builtins
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterable
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
ABSENT = ("ipdb", "joblib", "resource", "psutil", "tkinter")
"""Modules that LiveCodeBench takes away."""


def defined(source: str, header: str = "") -> ModuleType:
    """The module that an answer is, out of reach of what runs it: neither is there by name for the other."""
    answer = ModuleType("solution")
    space = vars(answer)
    # Not those of this file, which are a copy that the answer's changes do not reach.
    space["__builtins__"] = builtins
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        del sys.modules[name]
    sys.modules.update(solution=answer, __main__=ModuleType("__main__"))
    if header:
        exec(header, space)  # noqa: S102  # this is what the container is for
    exec(compile(source, "solution.py", "exec", dont_inherit=True), space)  # noqa: S102
    return answer


def plain(value: Any) -> Any:
    """The same as exactly builtin data. What a subclass overrides is not asked.

    Raises:
        TypeError: it is anything else.
    """
    if value is None or type(value) in FINAL:
        return value
    for kind, same in SCALARS.items():
        if isinstance(value, kind):
            return same(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in dict.items(value)}
    for kind, items in CONTAINERS.items():
        if isinstance(value, kind):
            return kind([plain(item) for item in items(value)])
    raise TypeError(f"{type(value).__name__} is not plain data")


FINAL = {bool, re.Match}
"""Types that nobody can derive from; some of MBPP's references return matches, which are asked only whether they are there."""
SCALARS: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
}
"""How each kind gives itself, exactly."""
CONTAINERS: dict[Any, Callable[[Any], Iterable[Any]]] = {kind: kind.__iter__ for kind in (list, tuple, set, frozenset)}
"""How each kind gives its items."""


# --- a benchmark's own checks ---------------------------------------------------------------------------------------


def checks(source: str, entry: str, codes: list[str], token: str) -> Callable[[int], str]:
    """A function that runs the check of a number, and returns the token if it comes to its end."""
    compiled = [compile(code, f"check {number}", "exec", dont_inherit=True) for number, code in enumerate(codes)]
    builtin = dict(vars(builtins))
    modules = _copies(compiled)
    untrace, unprofile = sys.settrace, sys.setprofile

    def bring(name: str, *how: Any) -> Any:
        return modules[name] if name in modules else builtin["__import__"](name, *how)

    answer = defined(source)
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


def method(source: str, name: str) -> Callable[..., Any]:
    """A method of class `Solution`, with LeetCode's usual imports; a new object for every call."""
    found = vars(defined(source, HEADER))["Solution"]
    return lambda *given: getattr(found(), name)(*given)  # noqa: PLW0108  # the object is new for every call


def official_method(source: str, name: str) -> Callable[..., Any]:
    """The same as LiveCodeBench's checker calls it: imports and answer are one text, and one object is there for all calls."""
    _take_away()
    answer = defined(f"{HEADER}\n\n{source}")
    found = getattr(answer.Solution() if "class Solution" in source else answer, name)

    def call(*given: Any) -> Any:
        result = found(*given)
        try:
            return plain(result)
        except TypeError:
            return result

    return call


def official_program(source: str) -> None:
    """Run a program as LiveCodeBench's checker does: as the body of a function, between texts that stand for its streams."""
    given, stdout = sys.stdin.buffer.read().decode("utf-8", "replace"), sys.stdout
    _take_away()
    body = vars(defined(_as_function(source)))["wrapped_function"]
    sys.stdin, sys.stdout = Typed(given), io.StringIO()
    printed = sys.stdout
    printed.close = lambda: None  # type: ignore[method-assign]
    with contextlib.suppress(SystemExit):
        body()
    stdout.write(printed.getvalue())


def _take_away() -> None:
    builtins.quit = None  # type: ignore[assignment]
    builtins.help = None  # type: ignore[assignment]
    sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]


def _as_function(source: str) -> str:
    """The imports of the top level, then all else as a function; the source itself where that cannot be written."""
    try:
        body = ast.parse(source).body
        last = body[-1] if body else None
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            body = body[:-1] + last.body
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        (function,) = ast.parse("def wrapped_function(): pass").body
        function.body = [node for node in body if node not in imports]  # type: ignore[attr-defined]
        return "\n".join((HEADER, *map(ast.unparse, imports), ast.unparse(function)))
    except Exception:
        return source


class Typed:
    """Stands for standard input, for those that read it by its usual methods; it cannot be iterated over."""

    def __init__(self, text: str) -> None:
        lines = iter(text.split("\n"))
        self._rest = io.StringIO(text)
        self.buffer = Bytes(text.encode())
        self.read = lambda *_: text
        self.readline = lambda *_: next(lines)
        self.readlines = lambda *_: text.split("\n")

    def __getattr__(self, name: str) -> Any:
        """All else is as in a text, which is always at its beginning."""
        return getattr(self._rest, name)


class Bytes:
    """Stands for standard input as bytes: all of it, or its first line, again and again."""

    def __init__(self, text: bytes) -> None:
        self.read = lambda *_: text
        self.readline = lambda *_: text.split(b"\n")[0] + b"\n"
