"""The event loop of a context: all cells share it, and tasks that they start run on between cells.

asyncio is imported only for cells that use it. Standard library only: this file is copied into the image.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Coroutine, Iterator
from typing import Any


class CellLoop:
    """An event loop that is created for the first cell that needs it."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._offered = False

    @contextlib.contextmanager
    def offered(self, source: str) -> Iterator[None]:
        """Make the loop look like the running one while a cell without `await` runs, so that the cell can start tasks.

        The loop does not run then, so the cell may run another one with `asyncio.run` or `run_until_complete`. New tasks get
        their first turn before the cell ends.
        """
        if "asyncio" not in source and "asyncio" not in sys.modules:
            yield
            return
        from asyncio import events, sleep

        loop = self._ready()
        self._offered = True
        events._set_running_loop(loop)
        try:
            yield
        finally:
            self._offered = False
            events._set_running_loop(None)
        if not loop.is_closed():
            loop.run_until_complete(sleep(0))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a cell with `await` to its end; if it is interrupted, what it awaits is cancelled."""
        loop = self._ready()
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done() and not loop.is_closed():
                task.cancel()
                with contextlib.suppress(BaseException):
                    loop.run_until_complete(task)
            raise

    def wait(self, fd: int) -> None:
        """Run the tasks until there is something to read from a descriptor; errors go to standard error."""
        if self._loop is None or self._loop.is_closed():
            return
        try:
            arrived = self._loop.create_future()
            self._loop.add_reader(fd, lambda: arrived.done() or arrived.set_result(None))
            try:
                self._loop.run_until_complete(arrived)
            finally:
                self._loop.remove_reader(fd)
        except BaseException:  # a task may raise anything, and the loop is the cells' own
            with contextlib.suppress(BaseException):
                traceback.print_exc()

    def _ready(self) -> Any:
        if self._loop is None:
            self._patch_asyncio()
        if self._loop is None or self._loop.is_closed():
            from asyncio import events

            self._loop = events.new_event_loop()
            events.set_event_loop(self._loop)
        return self._loop

    def _patch_asyncio(self) -> None:
        """Patch asyncio: the offered loop does not count as running, so another may run, and ours is offered again after it."""
        from asyncio import events

        get_running, set_running, cell_thread = events._get_running_loop, events._set_running_loop, threading.get_ident()

        def really_running() -> Any:
            loop = get_running()
            return None if loop is self._loop and loop is not None and not loop.is_running() else loop

        def set_or_offer(loop: Any) -> None:
            offer = loop is None and self._offered and threading.get_ident() == cell_thread
            set_running(self._loop if offer else loop)

        events._get_running_loop = really_running
        events._set_running_loop = set_or_offer
