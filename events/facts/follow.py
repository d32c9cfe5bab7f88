"""Following a log: everything after a position, and then whatever is appended, as it comes.

Law: a follower misses nothing and sees nothing twice, because positions grow in commit order and its cursor is one position;
what wakes it up is only a hint. It keeps no cursor for anybody: see `events.facts.consumers`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing

from events.facts.log import Event, ReadableLog

POLL_INTERVAL_S = 0.5
"""How often a follower that nothing wakes asks whether to stop."""


def follow(
    log: ReadableLog,
    stream: str | None = None,
    *,
    after: int = 0,
    kinds: Collection[str] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Events after a position, in order; waits for more at the end of the log.

    Args:
        log: what to follow.
        stream: of this stream only.
        after: where to begin.
        kinds: of these kinds only.
        stop: whether to end. What was appended before it said so is still told.
    """
    with closing(log.subscribe()) as subscription:
        while True:
            last = stop()
            end = log.head().position
            for event in log.read(stream, after=after, kinds=kinds):
                after = event.position
                yield event
            after = max(after, end)
            if last:
                return
            subscription.wait(POLL_INTERVAL_S)
