"""The documents say what is true."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

from events.__main__ import app
from events.cli.app import run_app
from events.reports.documents import facts_table, replace_generated
from events.stores import open_log
from events.stores.schema import Table
from events.trace import app as trace_app
from graph.diagram import mermaid
from tests.support.example_runs import example_run
from tests.support.paths import ROOT

LAYERS = ("events", "sandbox", "roles", "graph", "trainer")
README = (ROOT / "README.md").read_text()
LOG = (ROOT / "docs" / "log.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def table(text: str, heading: str) -> dict[str, set[str]]:
    """What stands in code marks in the second column of a table, by its first."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", section, re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", rest)) for name, rest in rows}


@pytest.fixture
def played(tmp_path, monkeypatch):
    """A folder with a run, as the examples have it; they start there."""
    (tmp_path / "runs" / "run-001").mkdir(parents=True)
    with closing(open_log(tmp_path / "runs" / "run-001" / "log.sqlite", create=True)) as log:
        example_run(log).run(recipe="gasp").goalpost(2).play().update().end()
        streams = {event.stream for event in log.read()}
    monkeypatch.chdir(tmp_path)
    return streams


def test_the_diagram_is_the_graph():
    assert replace_generated(README, "graph", mermaid()) == README, "run `make drawn`"


def test_the_table_of_facts_is_the_union_of_facts():
    assert replace_generated(LOG, "facts", facts_table()) == LOG, "run `make drawn`"


def test_the_tables_of_the_log_are_the_tables_of_the_database():
    real = {name: {column.name for column in made.columns} for name, made in Table.metadata.tables.items()}
    real["tip"].remove("id")
    assert table(LOG, "Tables") == real


def test_every_stream_is_explained(played):
    told = {name.split("/")[0] for name in table(LOG, "Streams")}
    assert {stream.split("/")[0] for stream in played} <= told


def test_the_examples_in_python_run(played, capsys):
    names: dict[str, object] = {}
    for code in blocks(LOG, "python"):
        exec(compile(code, "docs/log.md", "exec"), names)
    names["log"].close()
    assert "Head(position=" in capsys.readouterr().out


def test_the_commands_run_and_every_command_has_an_example(played, postgres, capsys, monkeypatch):
    lines = [line for block in blocks(LOG, "console") for line in block.splitlines()]
    for line in lines:
        _, _, module, *words = shlex.split(line.replace("postgresql://gasp@host/gasp", postgres))
        monkeypatch.setattr(sys, "argv", [module, *words])
        with pytest.raises(SystemExit) as ended:
            run_app({"events": app, "events.trace": trace_app}[module])
        assert not ended.value.code, line
        assert capsys.readouterr().out, line
    named = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {shlex.split(line)[3] for line in lines if "-m events " in line} == named


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
