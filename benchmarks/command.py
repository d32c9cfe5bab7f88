"""What the commands share: running a function as a command line, and files that are made once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import typer

from events.cli.app import run_app


def run_main(main: Callable[..., None]) -> None:
    """Run a function as the command line of this process."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    run_app(app)


def made_once(path: Path, make: Callable[[Path], None]) -> Path:
    """A file or folder that is created at a draft path and renamed when it is complete, unless it exists already."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        for leftover in (draft, *(Path(f"{draft}-{kind}") for kind in ("wal", "shm"))):
            leftover.unlink(missing_ok=True)
        make(draft)
        draft.rename(path)
    return path
