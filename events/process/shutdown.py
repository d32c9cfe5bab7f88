"""Orderly end of a process: SIGINT and SIGTERM raise `Stopped`, and commands end without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from events.process.startup import SIGNALS, exit_now, set_handlers

if TYPE_CHECKING:
    import asyncio

_received: list[int] = []
"""Signals received that ask this process to end."""
ResultT = TypeVar("ResultT")


class Stopped(KeyboardInterrupt):
    """The process received SIGINT (Ctrl-C) or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number
        """Exit code as shells report it: 128 plus the signal's number."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise `Stopped` in the main thread; a second signal ends the process at once.

    Raises:
        Stopped: a signal came, whatever error it caused.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()

    def stop(number: int, _: FrameType | None) -> NoReturn:
        _received.append(number)
        set_handlers(lambda again, _: exit_now(again))
        raise Stopped(number)

    def ignored(broken: sys.UnraisableHookArgs) -> None:
        # A signal interrupted a destructor: Python only reports that, so it is sent again.
        if isinstance(broken.exc_value, Stopped):
            set_handlers(stop)
            os.kill(os.getpid(), _received[-1])
        else:
            before(broken)

    before, sys.unraisablehook = sys.unraisablehook, ignored
    handlers = set_handlers(stop)
    try:
        yield
    except BaseException as error:
        # Libraries may wrap `Stopped`, or turn it into an exit.
        if _received:
            raise Stopped(_received[0]) from error
        raise
    else:
        if _received:
            raise Stopped(_received[0])
    finally:
        sys.unraisablehook = before
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine as `asyncio.run` does; SIGINT and SIGTERM cancel it, so that it releases everything in its own order.

    A busy thread, sampling for instance, is then not awaited.

    Raises:
        Stopped: a signal came.
    """
    import asyncio

    _received.clear()

    def stop(number: int) -> None:
        if _received:
            exit_now(number)
        _received.append(number)
        task.cancel()

    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in handlers.items():
            if handler is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop, number)
        try:
            return loop.run_until_complete(task)
        except (Exception, asyncio.CancelledError) as error:
            if _received:
                raise Stopped(_received[0]) from error
            raise
        finally:
            _end(loop, wait=not _received)
            for number, handler in handlers.items():
                signal.signal(number, handler)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, *, wait: bool) -> None:
    import asyncio

    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    if wait:
        loop.run_until_complete(loop.shutdown_default_executor())
