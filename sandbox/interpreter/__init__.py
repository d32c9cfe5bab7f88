"""A stateful Python interpreter in a container, with files and streamed output; sync and async.

The API is that of a widely used hosted interpreter; docs/interpreter.md lists the differences.
"""

from sandbox.interpreter.async_client import AsyncFilesystem, AsyncSandbox
from sandbox.interpreter.client import Sandbox
from sandbox.interpreter.errors import (
    FileNotFoundException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    TimeoutException,
)
from sandbox.interpreter.files import Filesystem, WriteEntry
from sandbox.interpreter.values import (
    Context,
    EntryInfo,
    Execution,
    ExecutionError,
    FileType,
    Logs,
    OutputMessage,
    Result,
    SandboxInfo,
    WriteInfo,
)

__all__ = [
    "AsyncFilesystem",
    "AsyncSandbox",
    "Context",
    "EntryInfo",
    "Execution",
    "ExecutionError",
    "FileNotFoundException",
    "FileType",
    "Filesystem",
    "InvalidArgumentException",
    "Logs",
    "NotEnoughSpaceException",
    "NotFoundException",
    "OutputMessage",
    "Result",
    "Sandbox",
    "SandboxException",
    "SandboxInfo",
    "SandboxNotFoundException",
    "SandboxNotRunningException",
    "TimeoutException",
    "WriteEntry",
    "WriteInfo",
]
