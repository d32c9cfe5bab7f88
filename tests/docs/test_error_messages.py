"""Errors are sentences: they begin with an upper-case letter, or with a name, and end with a full stop."""

from __future__ import annotations

import ast

import pytest

from tests.support.paths import ROOT

NAMES = ("vLLM ", "apt-get ", "config.json ", "learn.optimizer ")
"""What is written so at the beginning, too."""


def exceptions() -> set[str]:
    classes = (
        node
        for file in ("events/facts/errors.py", "events/web/view/not_found.py", "sandbox/interpreter/errors.py")
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    return {node.name for node in classes}


def ends(message: ast.expr) -> tuple[str, str]:
    """How a message begins and ends; an upper-case letter or a full stop where a value stands."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    first, last = (part.value if isinstance(part, ast.Constant) else None for part in (parts[0], parts[-1]))
    return first or "A", last or "."


@pytest.mark.parametrize("package", ["events", "sandbox", "roles", "graph", "trainer"])
def test_messages_are_sentences(package):
    names, wrong = exceptions(), []
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            message = node.exc.args[0]
            if getattr(node.exc.func, "id", "") in names and isinstance(message, ast.JoinedStr | ast.Constant):
                begin, end = ends(message)
                if (begin[0].islower() and not begin.startswith(NAMES)) or not end.endswith((".", "?", "`")):
                    wrong.append(f"{path}:{node.lineno}")
    assert not wrong
