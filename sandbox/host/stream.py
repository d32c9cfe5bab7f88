"""Frames over a container's attached standard streams, which the engine multiplexes.

Law: whatever goes wrong with container or stream is `ContainerLost`. A frame is 4 bytes length, then JSON. It starts no
container and does not know what frames mean.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from typing import Any

LARGEST_FRAME = 1 << 28
"""Bytes of a frame that the host is willing to hold; no honest one comes near."""
_STDERR = 2


class ContainerLost(Exception):
    """The container or the stream to it broke; the message says how."""


class Stream:
    """The frames of one container. One thread may send while another receives."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket: socket.socket = attached._sock
        self._raw = b""
        self._out = bytearray()
        self._said = b""

    def send(self, message: object, seconds: float, more: bytes = b"") -> None:
        """Send one frame whole, and bytes after it."""
        body = json.dumps(message).encode()
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(struct.pack("!I", len(body)) + body + more)
        except OSError as error:
            raise ContainerLost(f"the stream broke: {error}") from error

    def receive(self, seconds: float) -> Any:
        """The next frame."""
        deadline = time.monotonic() + seconds
        body = self._take(struct.unpack("!I", self._take(4, deadline))[0], deadline)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ContainerLost("it sent a frame that is not JSON") from error

    def receive_bytes(self, size: int, seconds: float) -> bytes:
        """What follows a frame."""
        return self._take(size, time.monotonic() + seconds)

    def _take(self, size: int, deadline: float) -> bytes:
        if size > LARGEST_FRAME:
            raise ContainerLost(f"it announced {size} bytes")
        while len(self._out) < size:
            self._read(deadline)
        taken = bytes(self._out[:size])
        del self._out[:size]
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
            raise ContainerLost(f"the container ended. {self._said.decode('utf-8', 'replace')[-300:]}".strip())
        self._raw += part
        while len(self._raw) >= 8:
            kind, size = struct.unpack_from("!BxxxI", self._raw)
            if len(self._raw) < 8 + size:
                return
            payload, self._raw = self._raw[8 : 8 + size], self._raw[8 + size :]
            if kind == _STDERR:
                self._said = (self._said + payload)[-2000:]
            else:
                self._out += payload

    def close(self) -> None:
        """Let go of the container's streams. Safe to call twice."""
        # A thread that waits in `receive` is woken by this, and not by closing alone.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._attached.close()
        self._socket.close()
