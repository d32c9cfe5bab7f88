"""The connection to the kernel in a container: concurrent calls over one stream.

Guarantees: a call ends with its frame of kind `done`, when its caller cancels it, or with the stream; no caller waits for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

from sandbox.host.stream import ContainerLost, Stream
from sandbox.host.worker import GRACE_SECONDS
from sandbox.interpreter import errors

MAX_LIFETIME_S = 86_400.0
"""Longest lifetime of a sandbox."""
Frame = dict[str, Any]
FrameHandler = Callable[[Frame], object]
"""Takes the frames of one call, on the connection's own thread; it must not block."""
_CONNECTION_CLOSED: Frame = {"kind": "ended"}
_REFUSALS = {
    "not_found": errors.FileNotFoundException,
    "no_context": errors.NotFoundException,
    "no_space": errors.NotEnoughSpaceException,
    "invalid": errors.InvalidArgumentException,
    "busy": errors.TimeoutException,
}


class Connection:
    """Calls to the kernel, from any thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._calls: dict[int, FrameHandler] = {}
        self._numbers = itertools.count(1)
        self.ended = ""
        """Why the connection has ended; empty while it is open."""
        threading.Thread(target=self._listen, name="sandbox-connection", daemon=True).start()

    def begin(self, request: Frame, handler: FrameHandler) -> int:
        """Send a request whose frames go to the handler; the number of the call."""
        with self._lock:
            number = next(self._numbers)
            if not self.ended:
                self._calls[number] = handler
        if self.ended:
            handler(_CONNECTION_CLOSED)
        else:
            self._send({**request, "call": number})
        return number

    def cancel(self, number: int) -> None:
        """Drop further frames of a call, and interrupt its cell if the call has not ended."""
        with self._lock:
            is_open = self._calls.pop(number, None) is not None
        if is_open and not self.ended:
            self._send({"do": "interrupt", "with": {"call": number}, "call": 0})

    def frames(self, request: Frame, seconds: float) -> Generator[Frame, None, None]:
        """Send a request and yield its frames, the last of kind `done`.

        Raises:
            SandboxException: the request is refused, or the sandbox has ended; which class says why.
            TimeoutException: no frame has come for `seconds` and a grace.
        """
        arrived: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        number = self.begin(request, arrived.put)
        try:
            kind = ""
            while kind != "done":
                try:
                    frame = self.checked(arrived.get(timeout=seconds + GRACE_SECONDS))
                except queue.Empty:
                    raise errors.TimeoutException(f"The sandbox has sent nothing for {seconds:.0f} s; kill it.") from None
                kind = frame["kind"]
                yield frame
        finally:
            self.cancel(number)

    def call(self, operation: str, seconds: float, /, **arguments: Any) -> Any:
        """Send a request that has a single reply, and return its value; raises as `frames` does."""
        with contextlib.closing(self.frames({"do": operation, "with": arguments, "seconds": seconds}, seconds)) as frames:
            return next(frames)["value"]

    def checked(self, frame: Frame) -> Frame:
        """The frame itself; SandboxException if it says that the call failed."""
        if frame["kind"] == "ended":
            raise errors.SandboxNotRunningException(f"The sandbox has ended: {self.ended}; create a new one.")
        if "refused" in frame:
            raise _REFUSALS[frame["refused"]](f"The sandbox refused: {frame['why']}.")
        return frame

    def close(self, why: str) -> None:
        """End every call. Safe to call twice."""
        with self._lock:
            self.ended = self.ended or why
            handlers, self._calls = list(self._calls.values()), {}
        self._stream.close()
        for handler in handlers:
            handler(_CONNECTION_CLOSED)

    def _send(self, request: Frame) -> None:
        # The listening thread notices a broken stream.
        with self._lock, contextlib.suppress(ContainerLost):
            self._stream.send(request, GRACE_SECONDS)

    def _listen(self) -> None:
        try:
            while True:
                frame = self._stream.receive(MAX_LIFETIME_S + GRACE_SECONDS)
                handler = self._calls.get(frame["call"])
                if frame["kind"] == "done":
                    self._calls.pop(frame["call"], None)
                if handler is not None:
                    handler(frame)
        except (ContainerLost, LookupError, TypeError, ValueError) as error:
            self.close(str(error))
