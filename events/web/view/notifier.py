"""A bell that threads ring and event loops hear.

Law: ringing never waits and never fails. What happened is not said: whoever hears it looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Notifier:
    """Rung from any thread."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._ears: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def notify(self) -> None:
        """Wake everybody who listens."""
        for loop, heard in tuple(self._ears):
            # A loop that has ended since hears nothing.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(heard.set)

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Event]:
        """Set whenever the bell rings; for the loop that is running."""
        ear = asyncio.get_running_loop(), asyncio.Event()
        self._ears.add(ear)
        try:
            yield ear[1]
        finally:
            self._ears.discard(ear)
