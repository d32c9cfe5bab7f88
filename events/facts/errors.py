"""The exceptions that the project raises on purpose.

GaspError
├── BadInput            what the user gave is wrong: config, files, directories (exit code 2)
├── LogError            the log cannot be read or written
│   ├── Conflict        another writer was faster: re-read and retry
│   ├── LogUnreachable  its server cannot be reached: wait and repeat
│   ├── InDoubt         the server was lost during a commit: repeat under a key, or re-read
│   └── LogCorrupt      hash chain or blob does not match
├── SandboxError        Docker engine, image or container failed (a failing program is a verdict, no error)
├── ModelError          a model or its server failed, or serves other weights than asked
└── TrainerError        the trainer died or cannot replay the log
    └── ReplayDiverged  a replay finds other samples or weights than the log records

A message is one sentence: what is wrong, which thing it is, and what to do. Commands print it without a traceback.
"""

from __future__ import annotations


class GaspError(Exception):
    """Base of all our errors; `exit_code` is what a command ends with."""

    exit_code = 1


class BadInput(GaspError, ValueError):
    """Something the user gave is wrong."""

    exit_code = 2


class LogError(GaspError):
    """The log cannot be read or written."""


class Conflict(LogError):
    """The stream is not at the expected version."""


class LogUnreachable(LogError):
    """The server of the log cannot be reached; nothing was appended."""


class InDoubt(LogError):
    """The connection was lost during a commit: whether the append happened is not known."""


class LogCorrupt(LogError):
    """Hash chain, schema or blob does not match."""


class SandboxError(GaspError):
    """The engine, the image or a container failed."""


class ModelError(GaspError):
    """A model failed, or serves other weights than asked."""


class TrainerError(GaspError):
    """The trainer died, or cannot replay the log."""


class ReplayDiverged(TrainerError):
    """A replay of the log finds other samples, or makes other weights, than the log records."""

    def __init__(self, what: str, *, position: int, expected: str, found: str) -> None:
        """Name the digests of `what` (`samples` or `weights`) at `position`: the recorded one, and the one that was found."""
        super().__init__(
            f"The {what} of the update at position {position} are recorded as {expected}, but replayed as {found};"
            " compare versions, settings and machine with those of the run, or train with --no-verify."
        )
        self.position = position
        self.expected = expected
        self.found = found
