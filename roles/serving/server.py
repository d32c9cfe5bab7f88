"""One vLLM server from outside: its address, its health and its log.

Guarantees: lines of a log are safe to print. Not responsible for: starting and ending it.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from events.facts.errors import BadInput
from events.text.safe_text import one_line
from events.text.secrets import mask
from roles.serving.command import HOST

_TAIL_BYTES = 1 << 16
_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception)\b(?:: .*)?$")
_PREFIX = re.compile(r"^(?:\([\w-]+ pid=\d+\) ?)?(?:(?:ERROR|WARNING|INFO) [\d-]+ [\d:]+ \[[^\]]*\] ?)?")


@dataclass
class VllmServer:
    """A server that has been started."""

    number: int
    """Among the replicas, from 0."""
    port: int
    log: Path
    """File with its standard output and standard error."""
    log_size_at_start: int = 0
    """Bytes of the log when it first answered."""

    @property
    def url(self) -> str:
        """Base URL, without `/v1`."""
        return f"http://{HOST}:{self.port}"

    def answers(self, key: str) -> bool:
        """Whether its health check succeeds."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health", headers={"Authorization": f"Bearer {key}"})
            healthy = connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if healthy and not self.log_size_at_start:
            self.log_size_at_start = self.log.stat().st_size
        return healthy

    def last_line(self) -> str:
        """The last line of its log."""
        lines = self._lines(0)
        return lines[-1] if lines else ""

    def error_summary(self) -> str:
        """The first exception in its log since it answered, since later ones are consequences; else the last line."""
        lines = self._lines(self.log_size_at_start)
        for number, line in enumerate(lines):
            if _ERROR_LINE.match(line):
                # pydantic gives the reason on the next line.
                return one_line(" ".join(lines[number : number + 1 + ("validation error" in line)]), 300)
        return lines[-1] if lines else "its log is empty"

    def _lines(self, since: int) -> list[str]:
        try:
            with self.log.open("rb") as opened:
                opened.seek(max(since, self.log.stat().st_size - _TAIL_BYTES))
                text = opened.read().decode(errors="replace")
        except OSError:
            return []
        lines = (mask(one_line(_PREFIX.sub("", line), 300)) for line in text.splitlines())
        # The second line of Python's warnings has no information.
        return [line for line in lines if line and not line.startswith("warnings.warn(")]


@contextmanager
def reserved_ports(first: int, count: int) -> Iterator[list[int]]:
    """Ports from `first` on (0: any free ones) that no other process gets meanwhile: this process binds them, servers listen.

    Raises:
        BadInput: one is in use, or not permitted.
    """
    with ExitStack() as held:
        ports = []
        for number in range(count):
            bound = held.enter_context(socket.socket())
            # vLLM sets it, too: both may bind a port as long as only one listens.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind((HOST, first and first + number))
            except (OSError, OverflowError) as error:
                why = f"port {first + number} cannot be had ({error})"
                raise BadInput(f"{why}; give another, or none for a free one.") from error
            ports.append(bound.getsockname()[1])
        yield ports
