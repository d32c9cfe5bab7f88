"""The documents say what is true."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from graph.diagram import placed

ROOT = Path(__file__).parent.parent
LAYERS = ("events", "sandbox", "roles", "graph", "trainer")
README = (ROOT / "README.md").read_text()


def test_the_diagram_is_the_graph():
    assert placed(README) == README, "run `make diagram`"


def test_every_path_in_the_tree_exists():
    tree = README.split("## The tree")[1].split("```")[1]
    folder = ""
    for line in tree.splitlines():
        words = [word for word in line.split() if re.fullmatch(r"[a-z_]+(/|\.py)", word)]
        if line and not line.startswith(" "):
            folder = words[0]
            assert (ROOT / folder).is_dir(), folder
            continue
        for word in words:
            assert (ROOT / folder / word).exists() or (ROOT / word).exists(), f"{folder}{word}"


@pytest.mark.parametrize("name", LAYERS)
def test_the_packages_are_ours(name):
    """Other distributions install packages of these names; ours must win."""
    assert Path(str(import_module(name).__file__)).parent == ROOT / name


def test_functions_and_files_stay_small():
    files = [path for name in LAYERS for path in (ROOT / name).rglob("*.py")]
    long = [str(path) for path in files if path.read_text().count("\n") > 400]
    for path in files:
        functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        long += [f"{path}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno >= 60]
    assert not long
