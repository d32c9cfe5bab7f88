"""Exceptions of the interpreter: errors of the sandbox; those of the code that runs in it are in `Execution.error`.

SandboxException (our SandboxError by the name that users of hosted interpreters know)
├── TimeoutException                 code or a request took too long
│   └── SandboxNotRunningException   the sandbox was killed, reached its timeout, or broke
├── InvalidArgumentException         an argument is invalid, or not supported here
├── NotEnoughSpaceException          the sandbox has no space left
└── NotFoundException                there is no such context
    ├── FileNotFoundException        there is no such file or folder
    └── SandboxNotFoundException     no such sandbox runs in this process
"""

from __future__ import annotations

from events.facts.errors import SandboxError

SandboxException = SandboxError


class TimeoutException(SandboxError):
    """Code or a request took too long."""


class SandboxNotRunningException(TimeoutException):
    """The sandbox was killed, reached its timeout, or broke."""


class InvalidArgumentException(SandboxError):
    """An argument is invalid, or not supported here."""


class NotEnoughSpaceException(SandboxError):
    """The sandbox has no space left."""


class NotFoundException(SandboxError):
    """There is no such context, file or sandbox."""


class FileNotFoundException(NotFoundException):
    """There is no such file or folder."""


class SandboxNotFoundException(NotFoundException):
    """No such sandbox runs in this process."""
