"""What every command of ours shares: errors as one sentence, polite ends, and how a run is named.

Law: a `GaspError` never shows a traceback, and anything else always does, because then the program is wrong. It knows no
command.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from events.errors import BadInput, GaspError
from events.safe_text import one_line
from events.stores import is_url, open_log, url_run
from events.stores.raw import Store
from events.stores.sqlite import SqliteLog

LOG_NAME = "log.sqlite"
"""The log's file in the directory of a run."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
BROKEN_PIPE = 141
"""Exit code when nobody reads the output any more, as shells have it."""


def python() -> str:
    """The interpreter as a person here would type it."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and end the process with its exit code."""
    app.pretty_exceptions_enable = False
    code: int | str | None = 0
    try:
        try:
            app()
        except SystemExit as end:
            code = end.code
        except GaspError as error:
            say_error(error)
            code = error.exit_code
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at its end, which must have somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    sys.exit(code)


def say_error(error: GaspError) -> None:
    """Print an error as one line on stderr."""
    sys.stderr.write(f"error: {one_line(str(error))}\n")


def find_log(run: Path) -> Path:
    """The log's file of a run: the directory that holds it, or the file itself.

    Raises:
        BadInput: there is none.
    """
    path = run / LOG_NAME if run.is_dir() else run
    if not path.is_file():
        raise BadInput(f"there is no log at {path}; give the directory of a run, or its {LOG_NAME}")
    return path


def open_run(run: Path) -> SqliteLog:
    """The log of a run, for reading.

    Raises:
        BadInput: there is none, or one of another version.
        LogError: it cannot be opened.
    """
    return open_log(find_log(run))


def locate(where: str, *, new: bool = False) -> Path | str:
    """What a command line calls a log, as `open_log` wants it: a URL, or the file of a run.

    Args:
        where: the URL, the directory of a run, or the file.
        new: whether a file need not be there yet.

    Raises:
        BadInput: there is none.
    """
    if is_url(where):
        return where
    path = Path(where)
    if new:
        return path / LOG_NAME if path.is_dir() else path
    return find_log(path)


def run_name(where: str) -> str:
    """What a run is called: the `run` of a URL, the name of its directory, or of a file that lies elsewhere.

    Raises:
        BadInput: there is no such file, or the URL names no run.
    """
    if is_url(where):
        return url_run(where)
    path = find_log(Path(where)).absolute()
    return path.parent.name if path.name == LOG_NAME else path.stem


def open_any(where: str) -> Store:
    """The log that a command line calls so, in a file or in a database.

    Raises:
        BadInput: there is none, or one of another version.
        LogError: it cannot be opened.
    """
    return open_log(locate(where))
