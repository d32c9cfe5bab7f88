"""A stateful Python interpreter in a container of its own.

Guarantees:
- Code runs in the container or not at all.
- Errors of the code are in its `Execution`; errors of the sandbox are raised.
- The container is removed when it is killed, when its timeout is over, or when this process ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self
from weakref import WeakValueDictionary

from sandbox.engine import engine, image_build, owner
from sandbox.host.confinement import require_runtime
from sandbox.host.container import SECONDS_TO_START, Container
from sandbox.host.stream import ContainerLost
from sandbox.interpreter.connection import MAX_LIFETIME_S, Connection, Frame
from sandbox.interpreter.errors import InvalidArgumentException, SandboxException, SandboxNotFoundException, TimeoutException
from sandbox.interpreter.files import REQUEST_SECONDS, Filesystem
from sandbox.interpreter.values import Context, Execution, ExecutionError, OutputMessage, Result, SandboxInfo, apply_frame
from sandbox.runner import Limits

if TYPE_CHECKING:
    import docker

HOME = "/home/user"
"""Working directory of contexts, and start of relative paths; in the image, a link to the scratch folder."""
DEFAULT_LIFETIME_S = 300.0
"""Default lifetime of a sandbox."""
LIMITS = Limits(
    wall_seconds=300,
    cpu_seconds=86_400,
    memory_mb=512,
    output_kb=10_240,
    file_mb=64,
    scratch_mb=128,
    open_files=256,
    processes=64,
)
"""`wall_seconds` (by default) and `output_kb` are of one cell, the other limits of the process of a context."""
COMMAND = ("python3.11", "-s", "-m", "sandbox.interpreter.guest.kernel")
DEFAULT_CONTEXT = "default"
NOT_OFFERED = {
    "commands": "there is no shell in its image; run Python with run_code",
    "pty": "there is no shell in its image; run Python with run_code",
    "git": "there is no git in its image, and no network",
    "get_host": "it has no network",
    "upload_url": "it has no network; use files.write",
    "download_url": "it has no network; use files.read",
    "pause": "its state lives in its processes only",
    "resume": "its state lives in its processes only",
    "fork": "its state lives in its processes only",
    "get_metrics": "its limits are in get_info",
}
"""Attributes of hosted interpreters that do not exist here, with the reason."""

OutputCallback = Callable[[Any], object]
"""Called with each output of a cell while it runs."""
_sandboxes: WeakValueDictionary[str, Sandbox] = WeakValueDictionary()
"""The sandboxes of this process."""


class Sandbox:
    """A sandbox that runs; `Sandbox.create()` makes one."""

    def __init__(self, client: docker.DockerClient, container: Container, image: str, limits: Limits) -> None:
        self._client = client
        self._container = container
        self._image = image
        self._limits = limits
        self._metadata: dict[str, str] = {}
        self._started_at = self._end_at = datetime.now(UTC)
        self.connection = Connection(container.stream)
        """To the kernel; not part of the public API."""
        self.sandbox_id = container.id[:12]
        """Short id of the container."""
        self.files = Filesystem(self.connection, limits.scratch_mb << 20)
        _sandboxes[self.sandbox_id] = self

    @classmethod
    def create(
        cls,
        template: str | None = None,
        timeout: float | None = None,
        metadata: dict[str, str] | None = None,
        envs: dict[str, str] | None = None,
        allow_internet_access: bool | None = None,
        *,
        limits: Limits = LIMITS,
        run: str = "interpreter",
        runtime: str = "",
        connect: Callable[[engine.Notify], docker.DockerClient] = engine.connect,
        notify: engine.Notify = engine.no_message,
    ) -> Self:
        """Start a sandbox.

        Args:
            template: must be None: there is one image.
            timeout: seconds until it is removed, 300 by default; `set_timeout` changes it.
            metadata: returned by `get_info`.
            envs: environment variables of all code.
            allow_internet_access: must not be True: there is no network.
            limits: of the code.
            run: name for the container's labels.
            runtime: OCI runtime by the engine's name for it; empty for the engine's default.
            connect: returns a client of the engine, and starts the engine if necessary.
            notify: progress callback for what takes long: starting an engine, building the image.

        Raises:
            InvalidArgumentException: an argument is not supported here.
            SandboxException: there is no engine, or the container does not start.
        """
        if template is not None or allow_internet_access:
            raise InvalidArgumentException(f"There is no template {template!r} and no network here; leave both out.")
        life = _checked_lifetime(timeout or DEFAULT_LIFETIME_S)
        client = connect(notify)
        try:
            require_runtime(client, runtime)
            image = image_build.ensure_image(client, notify)
            owner.remove_orphans(client)
            settings = {"home": HOME, "envs": envs or {}, "limits": limits.model_dump(), "seconds": life}
            sandbox = cls(client, _start_container(client, image, limits, run, runtime, settings), image, limits)
        except BaseException:
            client.close()
            raise
        sandbox._metadata = dict(metadata or {})
        sandbox._end_at = sandbox._started_at + timedelta(seconds=life)
        return sandbox

    @classmethod
    def connect(cls, sandbox_id: str, timeout: float | None = None) -> Sandbox:
        """The running sandbox with this id, else SandboxNotFoundException; only the process that created it can connect."""
        sandbox = _sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.is_running():
            raise SandboxNotFoundException(f"This process has no running sandbox {sandbox_id}; create one.")
        if timeout is not None and datetime.now(UTC) + timedelta(seconds=timeout) > sandbox._end_at:
            sandbox.set_timeout(timeout)
        return sandbox

    def __getattr__(self, name: str) -> NoReturn:
        why = NOT_OFFERED.get(name)
        raise AttributeError(f"A sandbox has no {name}" + (f": {why}." if why else "."))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    # --- code -------------------------------------------------------------------------------------------------------

    def run_code(
        self,
        code: str,
        language: str | None = None,
        context: Context | None = None,
        on_stdout: OutputCallback | None = None,
        on_stderr: OutputCallback | None = None,
        on_result: OutputCallback | None = None,
        on_error: OutputCallback | None = None,
        envs: dict[str, str] | None = None,
        timeout: float | None = None,
        request_timeout: float | None = None,
    ) -> Execution:
        """Run a cell in a namespace that stays; in one context, cells run one after another.

        Args:
            code: Python.
            language: `python` or None.
            context: where to run it; by default in the default context.
            on_stdout: called with each `OutputMessage` of standard output as it arrives.
            on_stderr: the same for standard error.
            on_result: called with each `Result`.
            on_error: called with the `ExecutionError`.
            envs: environment variables of this cell.
            timeout: seconds that it may run; 0: as long as the sandbox lives.
            request_timeout: has no effect, as there is no network connection.

        Raises:
            TimeoutException: it ran too long and was interrupted; the message says whether variables were kept.
            SandboxNotRunningException: the sandbox was killed, or its lifetime is over.
            NotFoundException: there is no such context.
        """
        execution = Execution()
        callbacks = (on_stdout, on_stderr, on_result, on_error)
        request = self.cell(code, language, context, envs, timeout)
        with contextlib.closing(self.connection.frames(request, self._seconds_left())) as frames:
            for frame in frames:
                callback, value = dispatch_frame(execution, frame, callbacks)
                if callback is not None:
                    callback(value)
        return execution

    def cell(
        self, code: str, language: str | None, context: Context | None, envs: dict[str, str] | None, timeout: float | None
    ) -> Frame:
        """The request to run a cell; InvalidArgumentException for another language than Python. Not part of the public API."""
        if language not in (None, "python"):
            raise InvalidArgumentException(f"There is no {language} here; only Python runs.")
        if language is not None and context is not None:
            raise InvalidArgumentException("Language and context were both given; a context has its language.")
        seconds = None if timeout == 0 else timeout or self._limits.wall_seconds
        where = context.id if context is not None else DEFAULT_CONTEXT
        return {"do": "run", "with": {"context": where, "code": code, "envs": envs or {}, "timeout": seconds}}

    def create_code_context(
        self, cwd: str | None = None, language: str | None = None, request_timeout: float | None = None
    ) -> Context:
        """A new namespace, with a process of its own; files are shared."""
        self.cell("", language, None, None, None)
        return Context(*self.connection.call("create", request_timeout or REQUEST_SECONDS, cwd=cwd))

    def list_code_contexts(self) -> list[Context]:
        """All contexts, the default one first."""
        return [Context(*fields) for fields in self.connection.call("contexts", REQUEST_SECONDS)]

    def restart_code_context(self, context: Context | str) -> None:
        """Restart with an empty namespace; a running cell is killed."""
        self.connection.call("restart", REQUEST_SECONDS, context=context if isinstance(context, str) else context.id)

    def remove_code_context(self, context: Context | str) -> None:
        """Remove a context; a running cell is killed."""
        self.connection.call("remove", REQUEST_SECONDS, context=context if isinstance(context, str) else context.id)

    # --- life -------------------------------------------------------------------------------------------------------

    def kill(self) -> bool:
        """Remove the sandbox; False if it had ended. Safe to call twice."""
        was_running = self.is_running()
        self.connection.close("it was killed")
        self._container.close()
        self._client.close()
        return was_running

    def is_running(self) -> bool:
        """Whether it takes code."""
        return not self.connection.ended

    def set_timeout(self, timeout: float) -> None:
        """Set the lifetime to so many seconds from now."""
        self.connection.call("lifetime", REQUEST_SECONDS, seconds=_checked_lifetime(timeout))
        self._end_at = datetime.now(UTC) + timedelta(seconds=timeout)

    def get_info(self) -> SandboxInfo:
        """Its state and settings."""
        return SandboxInfo(
            sandbox_id=self.sandbox_id,
            template_id=self._image,
            metadata=self._metadata,
            started_at=self._started_at,
            end_at=self._end_at,
            state="running" if self.is_running() else "killed",
            memory_mb=self._limits.memory_mb,
        )

    def _seconds_left(self) -> float:
        return max(0.0, (self._end_at - datetime.now(UTC)).total_seconds())


def dispatch_frame(
    execution: Execution, frame: Frame, callbacks: Sequence[OutputCallback | None]
) -> tuple[OutputCallback | None, Any]:
    """Add a frame to an execution; its callback (of those for stdout, stderr, results, errors) and the value to call that with.

    Raises:
        TimeoutException: the frame says that the cell ran too long.
    """
    value = apply_frame(execution, frame)
    match value:
        case OutputMessage():
            return callbacks[value.error], value
        case Result():
            return callbacks[2], value
        case ExecutionError():
            return callbacks[3], value
    if frame["value"]["ended"] == "timeout":
        state = "kept" if frame["value"]["kept"] else "lost, because it did not stop and its process was killed"
        raise TimeoutException(f"The code ran too long and was interrupted; variables are {state}. Give it a longer timeout.")
    return None, None


def _checked_lifetime(seconds: float) -> float:
    if not 0 < seconds <= MAX_LIFETIME_S:
        raise InvalidArgumentException(f"A sandbox cannot live for {seconds} seconds; at most {MAX_LIFETIME_S:.0f}.")
    return seconds


def _start_container(
    client: docker.DockerClient, image: str, limits: Limits, run: str, runtime: str, settings: dict[str, Any]
) -> Container:
    import docker
    import requests

    container = None
    try:
        container = Container(client, image, COMMAND, limits, run, runtime)
        container.stream.receive(SECONDS_TO_START)
        container.stream.send(settings, SECONDS_TO_START)
    except (docker.errors.DockerException, requests.RequestException, OSError, ContainerLost) as error:
        if container is not None:
            container.close()
        raise SandboxException(
            f"The sandbox's container did not start: {str(error)[:300]}; check the engine with `gasp engine up`."
        ) from error
    return container
