"""Operational logging, for whoever operates the program. It is not the event log, and is never replayed.

Guarantees:
- An entry is one line, whatever hostile text it holds, and holds no secrets.
- A process that configures no logging writes nothing.
- Values bound by `structlog.contextvars` (iteration, episode, node, policy) are in every line of that task, those bound by
  `configure` (run) in every line of the process, its threads included.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from events.facts.errors import BadInput, GaspError
from events.text.safe_text import clean, one_line
from events.text.secrets import MASK, is_secret, mask

FORMATS = ("json", "console")
"""Values of `GASP_LOG_FORMAT`."""
LEVELS = ("debug", "info", "warning", "error")
"""Values of `GASP_LOG_LEVEL`: the lowest level that is written."""

LogLine = MutableMapping[str, Any]


def configure(*, file: Path | None = None, **bound: str) -> None:
    """Log from now on, `bound` in every line: JSON lines to a file, or text to stderr; `GASP_LOG_FORMAT` overrides the format.

    Raises:
        BadInput: the environment names an unknown format or level.
    """
    import structlog

    form = _choice_from_environment("GASP_LOG_FORMAT", FORMATS, "console" if file is None else "json")
    level = _choice_from_environment("GASP_LOG_LEVEL", LEVELS, "info")
    stream = sys.stderr if file is None else file.open("a", encoding="utf-8", buffering=1)
    if form == "json":
        # Without local variables: they may hold secrets, and texts of any size.
        as_data = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
        text: list[Any] = [as_data, mask_secrets, structlog.processors.JSONRenderer(sort_keys=True)]
    else:
        plain = structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0)
        text = [structlog.processors.format_exc_info, mask_secrets, _on_one_line, plain]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            lambda _logger, _method, line: {**bound, **line},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


def logger() -> Any:
    """The logger; it writes nothing unless this process configured logging, since a library does not write uninvited."""
    # Whoever configured it has imported it, which takes a tenth of a second that most commands can save.
    structlog = sys.modules.get("structlog")
    return structlog.get_logger() if structlog is not None and structlog.is_configured() else _SilentLogger


@contextmanager
def log_lifetime(what: str, **fields: Any) -> Iterator[None]:
    """Log `<what>_started`, and then `<what>_ended`, or `<what>_stopped` with the error that stopped it."""
    began = time.monotonic()
    logger().info(f"{what}_started", pid=os.getpid(), **fields)
    try:
        yield
    except BaseException as error:
        # A traceback for a bug; a sentence for an interruption and for errors that the project raises on purpose.
        is_bug = isinstance(error, Exception) and not isinstance(error, GaspError)
        fields = {"error": type(error).__name__, "message": str(error), "seconds": seconds_since(began)}
        logger().error(f"{what}_stopped", **fields, exc_info=is_bug)
        raise
    logger().info(f"{what}_ended", seconds=seconds_since(began))


def seconds_since(began: float) -> float:
    """Seconds since a time of the monotonic clock, rounded to milliseconds."""
    return round(time.monotonic() - began, 3)


def mask_secrets(_logger: object, _method: str, line: LogLine) -> LogLine:
    """Turn a line into plain data in which every secret is masked, by its name or by its form."""
    return {name: _plain(value, name) for name, value in line.items()}


def _plain(value: Any, name: str = "") -> Any:
    if is_secret(name):
        return MASK
    match value:
        case None | bool() | int() | float():
            return value
        case dict():
            return {str(key): _plain(inner, str(key)) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner) for inner in value]
        case _:
            return mask(str(value))


def _on_one_line(_logger: object, _method: str, line: LogLine) -> LogLine:
    """Text that cannot pass for another line or move the cursor; a traceback is indented below its line."""
    shown = {name: one_line(value) if isinstance(value, str) else value for name, value in line.items()}
    if "exception" in line:
        shown["exception"] = "\n".join(f"    {part}" for part in clean(line["exception"]).splitlines())
    return shown


def _choice_from_environment(variable: str, choices: tuple[str, ...], default: str) -> str:
    choice = os.environ.get(variable) or default
    if choice not in choices:
        raise BadInput(f"{variable}={one_line(choice, 40)} is not known; use {', '.join(choices[:-1])} or {choices[-1]}.")
    return choice


class _SilentLogger:
    """Takes every entry and writes nothing."""

    @staticmethod
    def _drop(event: str, **fields: object) -> None:
        pass

    debug: ClassVar = _drop
    info: ClassVar = _drop
    warning: ClassVar = _drop
    error: ClassVar = _drop
    exception: ClassVar = _drop
