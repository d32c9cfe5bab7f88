"""What every command of ours shares: errors as one sentence, polite ends, and how a run is named.

Law: a `GaspError` never shows a traceback, and anything else always does, because then the program is wrong. It knows no
command.
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
from events.text.secrets import safe_message

LOG_NAME = "log.sqlite"
"""The log's file in the directory of a run."""
URL_NAME = "log.url"
"""In the directory of a run whose log is in a database, the file that says where, without a password."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
EXIT_BROKEN_PIPE = 141
"""Exit code when nobody reads the output any more, as shells have it."""

_GASP_WORDS = {
    "events": "log",
    "events.trace": "trace",
    "events.web": "web",
    "graph.run": "run",
    "trainer": "",
    "trainer.experiment": "experiment",
}
"""What the `gasp` command calls a module; the commands of `trainer` are its own."""


def typed_command(module: str) -> str:
    """What a person here would type to start a module of ours: `gasp WORD` where that began this process, else `python -m`."""
    script = Path(sys.argv[0].rpartition(" ")[0])
    by_script = script.name == "gasp" and script.is_file() and module in _GASP_WORDS
    path = script if by_script else Path(sys.executable)
    program = shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
    return f"{program} {_GASP_WORDS[module]}".rstrip() if by_script else f"{program} -m {module}"


def run_app(app: typer.Typer) -> NoReturn:
    """Run a command line and end the process with its exit code. A `~` that begins a word or an option's value is the home."""
    repair_streams()
    app.pretty_exceptions_enable = False
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    try:
        with stoppable():
            code = _run(app)
    except Stopped as stopped:
        _flush()
        # Threads that are still sampling would be waited for.
        os._exit(stopped.code)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _run(app: typer.Typer) -> int | str | None:
    """Run a command line; its exit code."""
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
    """Write what is left; Python does it once more at its end, which must have somewhere to go."""
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
"""What the machine refuses, however right the program is."""


def expand_home(word: str) -> str:
    """A word of a command line with the home for its `~`, as shells have it, and behind `--option=` too, as some have not."""
    name, equals, value = word.partition("=")
    if word.startswith("--") and equals and value.startswith("~"):
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(word) if word.startswith("~") else word


def print_error(error: GaspError) -> None:
    """Print an error as one line on stderr, without secrets."""
    with suppress(OSError):
        sys.stderr.write(f"error: {safe_message(str(error))}\n")


def holds_log(folder: Path) -> bool:
    """Whether this is the directory of a run."""
    return any((folder / name).is_file() for name in (LOG_NAME, URL_NAME))


def locate_log(where: str, *, new: bool = False) -> Path | str:
    """What a command line calls a log, as `open_log` wants it: a URL or a file.

    Args:
        where: the URL, the file, or the directory of a run, which holds the file or says the URL.
        new: whether a file need not be there yet.

    Raises:
        BadInput: there is none, or the directory holds two.
    """
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
    """What to give instead, by what is there."""
    folder = Path(where)
    inside = sorted(one for one in folder.iterdir() if holds_log(one)) if folder.is_dir() else []
    if inside:
        count = f"{len(inside)} run{'' if len(inside) == 1 else 's'}"
        return f"the folder holds {count}, give one, such as {inside[-1]}."
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
    """What a run is called: the `run` of a URL, the name of its directory, or of a file that lies elsewhere.

    Raises:
        BadInput: there is no such file, or the URL names no run.
    """
    found = locate_log(where)
    if isinstance(found, str):
        return run_of_url(found)
    path = found.absolute()
    return path.parent.name if path.name == LOG_NAME else path.stem


def open_run(where: str, *, read_only: bool = False) -> Store:
    """The log that a command line calls so, in a file or in a database; read-only lets the database refuse every write.

    Raises:
        BadInput: there is none, or one of another version.
        LogError: it cannot be opened.
    """
    return open_log(locate_log(where), read_only=read_only)
