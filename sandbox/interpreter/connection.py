"""The line to the kernel in a container: many calls at once over one stream.

Law: a call ends with its frame of kind `done`, with its caller's leaving, or with the stream; nobody waits for ever. It
does not know what calls mean.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

from sandbox.host.stream import ContainerLost, Stream
from sandbox.interpreter import errors

MAX_LIFETIME_S = 86_400.0
"""Seconds that a sandbox may be told to live."""
GRACE_SECONDS = 30.0
"""How much longer than promised the host waits, on a machine that is busy with other things."""
Frame = dict[str, Any]
FrameHandler = Callable[[Frame], object]
"""Takes the frames of one call, on the line's own thread; it must not wait."""
_CONNECTION_CLOSED: Frame = {"kind": "ended"}
_REFUSALS = {
    "not_found": errors.FileNotFoundException,
    "no_context": errors.NotFoundException,
    "no_space": errors.NotEnoughSpaceException,
    "invalid": errors.InvalidArgumentException,
    "busy": errors.TimeoutException,
}


class Connection:
    """Calls, from any thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._calls: dict[int, FrameHandler] = {}
        self._numbers = itertools.count(1)
        self.ended = ""
        """Why nothing can be said any more; empty while it can."""
        threading.Thread(target=self._listen, name="sandbox-line", daemon=True).start()

    def begin(self, request: Frame, deliver: FrameHandler) -> int:
        """Send a request; the number of the call."""
        with self._lock:
            number = next(self._numbers)
            if not self.ended:
                self._calls[number] = deliver
        if self.ended:
            deliver(_CONNECTION_CLOSED)
        else:
            self._send({**request, "call": number})
        return number

    def leave(self, number: int) -> None:
        """Take no more frames of a call, and end what it began if it goes on."""
        with self._lock:
            goes_on = self._calls.pop(number, None) is not None
        if goes_on and not self.ended:
            self._send({"do": "interrupt", "with": {"call": number}, "call": 0})

    def frames(self, request: Frame, seconds: float) -> Generator[Frame, None, None]:
        """Send a request and give its frames as they come, the last of kind `done`.

        Raises:
            SandboxException: the stream ended, the request was refused, or no frame came for so long.
        """
        arrived: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        number = self.begin(request, arrived.put)
        try:
            kind = ""
            while kind != "done":
                try:
                    frame = self.checked(arrived.get(timeout=seconds + GRACE_SECONDS))
                except queue.Empty:
                    raise errors.TimeoutException(f"The sandbox said nothing for {seconds:.0f} s; kill it.") from None
                kind = frame["kind"]
                yield frame
        finally:
            self.leave(number)

    def ask(self, do: str, seconds: float, /, **its: Any) -> Any:
        """Send a request that has one answer, and wait for that."""
        with contextlib.closing(self.frames({"do": do, "with": its, "seconds": seconds}, seconds)) as frames:
            return next(frames)["value"]

    def checked(self, frame: Frame) -> Frame:
        """The frame, unless it says that the call failed.

        Raises:
            SandboxException: what it says.
        """
        if frame["kind"] == "ended":
            raise errors.SandboxNotRunningException(f"The sandbox is no more: {self.ended}; create a new one.")
        if "refused" in frame:
            raise _REFUSALS[frame["refused"]](f"The sandbox refused: {frame['why']}.")
        return frame

    def close(self, why: str) -> None:
        """End every call. Safe to call twice."""
        with self._lock:
            self.ended = self.ended or why
            waiting, self._calls = list(self._calls.values()), {}
        self._stream.close()
        for deliver in waiting:
            deliver(_CONNECTION_CLOSED)

    def _send(self, request: Frame) -> None:
        # A stream that breaks here is noticed by the thread that listens.
        with self._lock, contextlib.suppress(ContainerLost):
            self._stream.send(request, GRACE_SECONDS)

    def _listen(self) -> None:
        try:
            while True:
                frame = self._stream.receive(MAX_LIFETIME_S + GRACE_SECONDS)
                deliver = self._calls.get(frame["call"])
                if frame["kind"] == "done":
                    self._calls.pop(frame["call"], None)
                if deliver is not None:
                    deliver(frame)
        except (ContainerLost, LookupError, TypeError, ValueError) as error:
            self.close(str(error))
