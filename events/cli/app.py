"""What all commands share: errors as one sentence, exit codes, and how a run is named.

Guarantees: a `GaspError` shows no traceback; any other error does, because then the program is wrong.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import typer

from events.facts.errors import BadInput, GaspError, LogError
from events.process.shutdown import Stopped, stoppable
from events.process.startup import repair_streams
from events.stores import is_url, open_log, run_of_url
from events.stores.raw import Store
from events.text.phrases import counted
from events.text.secrets import safe_message

LOG_NAME = "log.sqlite"
"""The log's file in the directory of a run."""
URL_NAME = "log.url"
"""In the directory of a run whose log is in a database: the file with its URL, without a password."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C (128 + SIGINT)."""
EXIT_BROKEN_PIPE = 141
"""Exit code when the reader of the output is gone (128 + SIGPIPE)."""

_GASP_WORDS = {
    "events": "log",
    "events.trace": "trace",
    "events.web": "web",
    "graph.run": "run",
    "trainer": "",
    "trainer.experiment": "experiment",
}
"""What the `gasp` command calls a module; the commands of `trainer` are its own."""


def typed_command(command: str) -> str:
    """What a person here would type for `MODULE [SUBCOMMAND]`: `gasp WORD` where that began this process, else `python -m`."""
    module, _, subcommand = command.partition(" ")
    script = Path(sys.argv[0].rpartition(" ")[0])
    by_script = script.name == "gasp" and script.is_file() and module in _GASP_WORDS
    path = script if by_script else Path(sys.executable)
    program = shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    words = (program, _GASP_WORDS[module], subcommand) if by_script else (program, "-m", module, subcommand)
    return " ".join(filter(None, words))


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and exit with its code; a `~` at the start of an argument or of an option's value is expanded."""
    repair_streams()
    app.pretty_exceptions_enable = False
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    try:
        with stoppable():
            code = _run(app)
    except Stopped as stopped:
        _flush()
        # A normal exit would wait for threads that are still sampling.
        os._exit(stopped.code)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _run(app: typer.Typer) -> int | str | None:
    code: int | str | None = 0
    try:
        try:
            app()
        except SystemExit as end:
            code = end.code
        except GaspError as error:
            print_error(error)
            code = error.exit_code
        sys.stdout.flush()
    except BrokenPipeError:
        _flush()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else "The output cannot be written: "
        print_error(LogError(f"{where}{error.strerror}."))
        _flush()
        return LogError.exit_code
    return code


def _flush() -> None:
    """Flush both streams; one that cannot be written is replaced by /dev/null, because Python flushes again when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_ENVIRONMENT_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}
    | {errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)
"""Errors of the machine or its user, not of the program."""


def expand_home(word: str) -> str:
    """An argument with its `~` expanded, also behind `--option=`, where not every shell does it."""
    name, equals, value = word.partition("=")
    if word.startswith("--") and equals and value.startswith("~"):
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(word) if word.startswith("~") else word


def print_error(error: GaspError) -> None:
    """Print an error as one line on stderr, its secrets masked."""
    with suppress(OSError):
        sys.stderr.write(f"error: {safe_message(str(error))}\n")


def holds_log(folder: Path) -> bool:
    """Whether the folder is the directory of a run."""
    return any((folder / name).is_file() for name in (LOG_NAME, URL_NAME))


def locate_log(where: str, *, new: bool = False) -> Path | str:
    """The URL or file of the log that a command line names, which may be missing if `new`; BadInput if there is none or two."""
    if is_url(where):
        return where
    path = Path(where)
    if path.is_dir():
        named = path / URL_NAME
        if named.is_file():
            return _read_url(named)
        path /= LOG_NAME
    if not new and not path.is_file():
        raise BadInput(f"There is no log at {path}; {_suggestion(where)}")
    return path


def _suggestion(where: str) -> str:
    folder = Path(where)
    runs = sorted(path for path in folder.iterdir() if holds_log(path)) if folder.is_dir() else []
    if runs:
        return f"the folder holds {counted(len(runs), 'run')}, give one, such as {runs[-1]}."
    elsewhere = Path("runs", where)
    if holds_log(elsewhere):
        return f"do you mean {elsewhere}?"
    return f"give the directory of a run, or its {LOG_NAME}."


def _read_url(file: Path) -> str:
    if file.with_name(LOG_NAME).exists():
        raise BadInput(f"{file.parent} holds both {LOG_NAME} and {URL_NAME}; move away the one that is not the run's log.")
    url = file.read_text(encoding="utf-8", errors="replace").strip()
    if not is_url(url):
        raise BadInput(f"{file} does not hold a postgresql:// URL; write one line such as postgresql://user@host/db?run=NAME.")
    return url


def run_name(where: str) -> str:
    """Name of a run: the `run` of its URL, its directory, or the stem of a file elsewhere; BadInput if there is none."""
    log = locate_log(where)
    if isinstance(log, str):
        return run_of_url(log)
    path = log.absolute()
    return path.parent.name if path.name == LOG_NAME else path.stem


def open_run(where: str, *, read_only: bool = False) -> Store:
    """Open the log that a command line names; where it is read-only, the database refuses every write.

    Raises:
        BadInput: there is no log, or one of another version.
        LogError: it cannot be opened.
    """
    return open_log(locate_log(where), read_only=read_only)
