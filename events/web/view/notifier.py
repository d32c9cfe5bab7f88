"""Notifies event loops from threads that something changed, without saying what.

Guarantees: notifying never blocks and never fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Notifier:
    """Sets the events of its subscribers; may be used from any thread."""

    def __init__(self) -> None:
        """Start without subscribers."""
        self._subscribers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def notify(self) -> None:
        """Set the events of all subscribers."""
        for loop, event in tuple(self._subscribers):
            # A loop that has been closed since raises.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set at every notification."""
        subscriber = asyncio.get_running_loop(), asyncio.Event()
        self._subscribers.add(subscriber)
        try:
            yield subscriber[1]
        finally:
            self._subscribers.discard(subscriber)
