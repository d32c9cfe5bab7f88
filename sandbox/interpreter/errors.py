"""What the interpreter raises: errors of the sandbox, never of the code that runs in it (that is `Execution.error`).

SandboxException (our SandboxError by the name that users of hosted interpreters know)
├── TimeoutException                 code or a request took too long
│   └── SandboxNotRunningException   the sandbox was killed, reached its timeout, or broke
├── InvalidArgumentException         what was asked for cannot be
├── NotEnoughSpaceException          the sandbox's files are full
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
    """The sandbox is no more."""


class InvalidArgumentException(SandboxError):
    """What was asked for cannot be."""


class NotEnoughSpaceException(SandboxError):
    """The sandbox's files are full."""


class NotFoundException(SandboxError):
    """There is no such thing."""


class FileNotFoundException(NotFoundException):
    """There is no such file or folder."""


class SandboxNotFoundException(NotFoundException):
    """No such sandbox runs in this process."""
