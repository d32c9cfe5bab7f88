"""Frames over a container's attached standard streams, which the engine multiplexes.

A frame is 4 bytes length, then JSON.

Guarantees: whatever goes wrong with container or stream is `ContainerLost`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from typing import Any

LARGEST_FRAME = 1 << 28
"""Most bytes of a frame that the host accepts; no honest one comes near."""
_STDERR = 2


class ContainerLost(Exception):
    """The container or the stream to it broke; the message says how."""


class Stream:
    """The frames of one container. One thread may send while another receives."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket: socket.socket = attached._sock
        self._received = b""
        self._stdout = bytearray()
        self._stderr = b""

    def send(self, message: object, seconds: float, more: bytes = b"") -> None:
        """Send one frame whole, and bytes after it; ContainerLost if that is not done in `seconds`."""
        body = json.dumps(message).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(struct.pack("!I", len(body)) + body + more)
        except OSError as error:
            raise ContainerLost(f"the stream broke: {error}") from error

    def receive(self, seconds: float) -> Any:
        """The next frame; ContainerLost if none comes in `seconds`, or it is not JSON."""
        deadline = time.monotonic() + seconds
        body = self._take(struct.unpack("!I", self._take(4, deadline))[0], deadline)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ContainerLost("it sent a frame that is not JSON") from error

    def receive_bytes(self, size: int, seconds: float) -> bytes:
        """The `size` bytes after a frame; ContainerLost if they do not come in `seconds`."""
        return self._take(size, time.monotonic() + seconds)

    def _take(self, size: int, deadline: float) -> bytes:
        if size > LARGEST_FRAME:
            raise ContainerLost(f"it announced {size} bytes")
        while len(self._stdout) < size:
            self._read(deadline)
        taken = bytes(self._stdout[:size])
        del self._stdout[:size]
        return taken

    def _read(self, deadline: float) -> None:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._socket.recv(1 << 16)
        except TimeoutError as error:
            raise ContainerLost("it did not answer in time") from error
        except OSError as error:
            raise ContainerLost(f"the stream broke: {error}") from error
        if not part:
            raise ContainerLost(f"the container ended. {self._stderr.decode('utf-8', 'replace')[-300:]}".strip())
        self._received += part
        while len(self._received) >= 8:
            # The engine's own header of each chunk: which standard stream, three unused bytes, and the size.
            kind, size = struct.unpack_from("!BxxxI", self._received)
            if len(self._received) < 8 + size:
                return
            payload, self._received = self._received[8 : 8 + size], self._received[8 + size :]
            if kind == _STDERR:
                self._stderr = (self._stderr + payload)[-2000:]
            else:
                self._stdout += payload

    def close(self) -> None:
        """Close the container's streams. Safe to call twice."""
        # This wakes a thread that waits in `receive`; closing alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._attached.close()
        self._socket.close()
