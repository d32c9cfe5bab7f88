"""The documents say what is true."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from events.reports.documents import facts_table, replace_generated
from events.stores.schema import Table
from graph.diagram import mermaid
from graph.settings.configure import all_settings
from tests.support.documents import blocks
from tests.support.paths import ROOT

LAYERS = ("events", "sandbox", "roles", "graph", "trainer")
README = (ROOT / "README.md").read_text()
LOG = (ROOT / "docs" / "log.md").read_text()


def table(text: str, heading: str) -> dict[str, set[str]]:
    """What stands in code marks in the second column of a table, by its first."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", section, re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", rest)) for name, rest in rows}


def test_the_diagram_is_the_graph():
    assert replace_generated(README, "graph", mermaid()) == README, "run `make drawn`"


def test_the_table_of_facts_is_the_union_of_facts():
    assert replace_generated(LOG, "facts", facts_table()) == LOG, "run `make drawn`"


def test_the_tables_of_the_log_are_the_tables_of_the_database():
    real = {name: {column.name for column in made.columns} for name, made in Table.metadata.tables.items()}
    real["tip"].remove("id")
    assert table(LOG, "Tables") == real


def test_every_stream_is_explained(recorded):
    documented = {name.split("/")[0] for name in table(LOG, "Streams")}
    assert {event.stream.split("/")[0] for event in recorded} <= documented


def test_the_examples_in_python_run(recorded, capsys):
    names: dict[str, object] = {}
    for code in blocks(LOG, "python"):
        exec(compile(code, "docs/log.md", "exec"), names)
    names["log"].close()
    assert "Head(position=" in capsys.readouterr().out


def test_every_setting_in_the_documents_exists():
    settings = {setting for setting, _, _ in all_settings()}
    groups = "|".join({setting.split(".")[0] for setting in settings if "." in setting})
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(rf"(?:`|--set '?)((?:{groups})\.[a-z_.]+[a-z_])\b", page.read_text()))
        gone = [name for name in named if not any(f"{setting}.".startswith(f"{name}.") for setting in settings)]
        assert not gone, page


def test_every_test_and_file_that_a_document_names_exists():
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for page in (ROOT / "docs").glob("*.md"):
        tests = set(re.findall(r"`(test_\w{20,})`", page.read_text()))
        assert tests <= set(re.findall(r"def (test_\w+)", code)), page
        files = re.findall(r"`((?:events|sandbox|roles|graph|trainer|tests|configs|docs)/[\w/.-]+)`", page.read_text())
        assert [file for file in files if not (ROOT / file).exists()] == [], page


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_link_between_documents_leads_somewhere():
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(page for name in LAYERS for page in (ROOT / name).rglob("README.md")),
    ]
    for page in pages:
        for path, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#?)([^)\s]*)\)", page.read_text()):
            target = page.parent / path if path else page
            assert target.exists(), f"{page}: {path}"
            assert not anchor or anchor in anchors(target), f"{page}: {path}#{anchor}"


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
