"""Values of the interpreter's API: executions with results, logs and errors; contexts; files.

Guarantees: whatever the container sends becomes text of bounded size in fields of known types; nothing is evaluated.
Names are those of a widely used hosted interpreter (docs/interpreter.md).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any


@dataclass
class OutputMessage:
    """A piece of output, as it came: whole lines where the program prints lines."""

    line: str
    """Text with its line ends."""
    timestamp: int
    """Nanoseconds since 1970, when the host received it."""
    error: bool = False
    """Whether it is from standard error."""

    def __str__(self) -> str:
        return self.line


class _Json:
    def to_json(self) -> str:
        return json.dumps(vars(self))


@dataclass
class ExecutionError(_Json):
    """The exception that the code raised, or the exit of its process."""

    name: str
    """Type of the exception; `ProcessDied` if the process exited."""
    value: str
    traceback: str
    """Traceback, without frames of the sandbox itself."""


@dataclass
class Result:
    """A displayed value, in all forms that it has."""

    text: str | None = None
    """Its `repr`."""
    html: str | None = None
    markdown: str | None = None
    svg: str | None = None
    png: str | None = None
    """Base64."""
    jpeg: str | None = None
    """Base64."""
    pdf: str | None = None
    """Base64."""
    latex: str | None = None
    json: Any = None
    javascript: str | None = None
    is_main_result: bool = False
    """Whether it is the value of the cell's last expression; else it was given to `display`."""

    def __repr__(self) -> str:
        return f"Result({', '.join(f'{name}={self[name]!r}' for name in self.formats())})"

    def __getitem__(self, form: str) -> Any:
        return getattr(self, form)

    def formats(self) -> list[str]:
        """Names of the forms that it has."""
        return [name for name in FORMS if self[name]]


FORMS = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript")
"""Forms of a result."""


@dataclass
class Logs(_Json):
    """Standard output and standard error, in pieces as they arrived."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


@dataclass
class Execution:
    """The outcome of one cell."""

    results: list[Result] = field(default_factory=list)
    logs: Logs = field(default_factory=Logs)
    error: ExecutionError | None = None
    """None if the cell ran to its end."""
    execution_count: int | None = None
    """Number of the cell in its context, from 1."""

    @property
    def text(self) -> str | None:
        """Text of the last expression's value."""
        return next((result.text for result in self.results if result.is_main_result), None)

    def to_json(self) -> str:
        """As a JSON object, in which logs and error are strings of JSON."""
        results = [{name: result[name] for name in ("text", *result.formats())} for result in self.results]
        error = self.error.to_json() if self.error else None
        return json.dumps({"results": results, "logs": self.logs.to_json(), "error": error})


@dataclass
class Context:
    """A namespace, with the process that holds it."""

    id: str
    cwd: str
    """Where its process starts."""
    language: str = "python"


class FileType(Enum):
    """Kinds of files."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"


@dataclass
class WriteInfo:
    """A file that was written."""

    name: str
    type: FileType | None
    path: str


@dataclass
class EntryInfo(WriteInfo):
    """A file or folder."""

    size: int
    mode: int
    """Permission bits."""
    permissions: str
    """The same as text: `rw-r--r--`."""
    owner: str
    group: str
    modified_time: datetime
    symlink_target: str | None = None


@dataclass
class SandboxInfo:
    """State and settings of a sandbox."""

    sandbox_id: str
    template_id: str
    metadata: dict[str, str]
    started_at: datetime
    end_at: datetime
    """When it will be removed, unless `set_timeout` moves that."""
    state: str
    """`running` or `killed`."""
    memory_mb: int
    """Limit of one process."""
    cpu_count: int = 1


def parse_entry(fields: dict[str, Any]) -> EntryInfo:
    """The entry that the container describes by these fields."""
    modified = datetime.fromtimestamp(fields.pop("modified_time"), UTC)
    return EntryInfo(type=FileType(fields.pop("type")), modified_time=modified, **fields)


def apply_frame(execution: Execution, frame: dict[str, Any]) -> OutputMessage | Result | ExecutionError | None:
    """Add the content of a frame to an execution; the value for a callback, None for the last frame."""
    kind, content = frame["kind"], frame.get("content", {})
    if kind in ("stdout", "stderr"):
        getattr(execution.logs, kind).append(frame["text"])
        return OutputMessage(frame["text"], time.time_ns(), kind == "stderr")
    if kind == "result":
        texts = {form: _printable(content[form]) for form in FORMS if form != "json" and isinstance(content.get(form), str)}
        result = Result(**texts, json=content.get("json"), is_main_result=content.get("main") is True)
        execution.results.append(result)
        return result
    if kind == "error":
        execution.error = ExecutionError(*(_printable(content.get(name)) for name in ("name", "value", "traceback")))
        return execution.error
    execution.execution_count = frame["value"]["count"]
    return None


def _printable(value: object) -> str:
    """Text without lone surrogates, which cannot be encoded; empty if it is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
