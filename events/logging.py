"""Operational logging: what the program does, for whoever operates it. Not the event log, and nobody replays it.

Law: no secrets. Values under names that look like one are masked before anything is written. It sets nothing up unless it
is called.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal

import structlog

Level = Literal["debug", "info", "warning", "error"]
"""How much is logged."""

# Without local variables: they may hold secrets, and texts of any size.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
_SECRET = re.compile(r"(^|_)(password|secret|credential|authorization|api_?key|access_?key|token)$", re.IGNORECASE)


def configure(*, level: Level = "info", file: Path | None = None) -> None:
    """Log to stderr for people, or to a file as JSON lines. Names bound by `structlog.contextvars` are in every line.

    Args:
        level: the least important level that is written.
        file: where JSON lines are appended.
    """
    last: list[structlog.typing.Processor]
    if file is None:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        stream = sys.stderr
    else:
        last = [_TRACEBACKS, structlog.processors.JSONRenderer(sort_keys=True, default=str)]
        stream = file.open("a", encoding="utf-8", buffering=1)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            mask_secrets,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


def mask_secrets(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace every value whose name says that it is a secret, in nested mappings as well."""
    for name, value in line.items():
        if _SECRET.search(name):
            line[name] = "***"
        elif isinstance(value, dict):
            line[name] = mask_secrets(_logger, _method, dict(value))
    return line
