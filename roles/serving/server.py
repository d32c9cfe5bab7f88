"""One vLLM server as seen from outside: where it answers, and what it says in its log.

Law: what a log says is made safe to show. It starts and ends nothing.
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
    """A server, from its start to its end."""

    number: int
    """Its place among the replicas."""
    port: int
    """Where it listens."""
    log: Path
    """All that it says."""
    log_size_at_start: int = 0
    """Bytes of the log when it first answered."""

    @property
    def url(self) -> str:
        """Where it answers, without `/v1`."""
        return f"http://{HOST}:{self.port}"

    def answers(self, key: str) -> bool:
        """Whether it does, and is well."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health", headers={"Authorization": f"Bearer {key}"})
            well = connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if well and not self.log_size_at_start:
            self.log_size_at_start = self.log.stat().st_size
        return well

    def last_line(self) -> str:
        """What it said last."""
        lines = self._lines(0)
        return lines[-1] if lines else ""

    def error_summary(self) -> str:
        """What it ended of: the first error that was raised, for others come of it; else the last line."""
        lines = self._lines(self.log_size_at_start)
        for number, line in enumerate(lines):
            if _ERROR_LINE.match(line):
                # pydantic says on the next line what is wrong.
                return one_line(" ".join(lines[number : number + 1 + ("validation error" in line)]), 300)
        return lines[-1] if lines else "it said nothing"

    def _lines(self, since: int) -> list[str]:
        try:
            with self.log.open("rb") as opened:
                opened.seek(max(since, self.log.stat().st_size - _TAIL_BYTES))
                said = opened.read().decode(errors="replace")
        except OSError:
            return []
        lines = (mask(one_line(_PREFIX.sub("", line), 300)) for line in said.splitlines())
        # The second half of a warning of Python's says nothing.
        return [line for line in lines if line and not line.startswith("warnings.warn(")]


@contextmanager
def reserved_ports(first: int, count: int) -> Iterator[list[int]]:
    """Ports that nobody else is given meanwhile: we are bound to them too, and servers alone listen.

    Args:
        first: the first port, the others follow; 0: any that are free.
        count: how many.

    Raises:
        BadInput: one is in use, or not ours to have.
    """
    with ExitStack() as held:
        ports = []
        for number in range(count):
            bound = held.enter_context(socket.socket())
            # vLLM sets it too: two may be bound to a port as long as none listens.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind((HOST, first and first + number))
            except (OSError, OverflowError) as error:
                why = f"port {first + number} cannot be had ({error})"
                raise BadInput(f"{why}; give another, or none for a free one.") from error
            ports.append(bound.getsockname()[1])
        yield ports
