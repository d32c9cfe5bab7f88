"""The `gasp` command is one entrance to all commands, and the commands in the documents are real."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from events.cli.app import typed_command
from events.reports.documents import replace_generated
from tests.support.documents import examples
from tests.support.paths import ROOT
from trainer import gasp
from trainer.command_page import tables

COMMANDS = {command.name: command for commands in gasp.GROUPS.values() for command in commands}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
READERS = {"trace", "log", "lineage", "questions", "prompts", "estimate"}
"""Commands that need neither a sandbox nor a model."""


def only_reads(words: list[str]) -> bool:
    return words[0] in READERS or bool({"--settings", "--dry-run"} & set(words) and words[0] == "run")


def run(words: list[str], monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["gasp", *words])
    with pytest.raises(SystemExit) as ended:
        gasp.main()
    return ended.value.code or 0


def test_the_help_page_names_every_command_and_imports_none():
    code = "import sys; from trainer import gasp\ntry: gasp.main()\nfinally: sys.exit('typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_a_reader_of_the_help_page_may_leave_early():
    command = f"{sys.executable} -m trainer.gasp --help | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_script_is_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"gasp": f"{gasp.main.__module__}:{gasp.main.__name__}"}


def test_a_word_that_is_no_command_is_one_sentence(monkeypatch, capsys):
    assert run(["trcae"], monkeypatch) == 2
    assert capsys.readouterr().err == "error: There is no command 'trcae'; `gasp --help` lists them.\n"


def test_commands_name_the_script_that_began_them(tmp_path, monkeypatch):
    script = tmp_path / "gasp"
    script.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{script} trace", "runs/run-001"])
    assert (typed_command("events.web"), typed_command("events verify")) == ("gasp web", "gasp log verify")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "trace.py"), "runs/run-001"])
    assert typed_command("events.web").endswith("-m events.web")


def test_the_page_of_commands_is_that_of_the_commands():
    page = (ROOT / "docs" / "commands.md").read_text()
    assert replace_generated(page, "commands", tables()) == page, "run `make drawn`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_is_a_command_with_its_options(page):
    for name, *words in examples(page):
        command = get_command(gasp.application(COMMANDS[name]))
        if isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        command.make_context(name, words)


# Those of docs/export.md run in tests/events/test_export.py.
@pytest.mark.parametrize("page", ["README.md", "docs/inspecting.md", pytest.param("docs/log.md", marks=pytest.mark.slow)])
def test_examples_that_only_read_run(page, placeholders, monkeypatch, capsys):
    (Path.cwd() / "configs").symlink_to(ROOT / "configs")
    for words in filter(only_reads, examples(ROOT / page)):
        real = [re.sub("|".join(placeholders), lambda match: placeholders[match[0]], word) for word in words]
        assert run(real, monkeypatch) == 0, words
        assert any(capsys.readouterr()), words


def test_every_command_on_logs_has_an_example():
    shown = {words[1] for words in examples(ROOT / "docs" / "log.md") if words[0] == "log"}
    assert shown == set(get_command(gasp.application(COMMANDS["log"])).commands)
