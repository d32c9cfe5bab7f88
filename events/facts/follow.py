"""Following a log: everything after a position, and then whatever is appended, as it comes.

Guarantees: nothing is missed and nothing is seen twice. Positions grow in commit order and the cursor is one position; the
subscription that wakes a follower is only a hint.
Not responsible for: keeping a cursor across processes (`events.facts.consumers`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing

from events.facts.log import Event, ReadableLog

POLL_INTERVAL_S = 0.5
"""Seconds after which a follower that nothing wakes checks whether to stop."""


def follow(
    log: ReadableLog,
    stream: str | None = None,
    *,
    after: int = 0,
    kinds: Collection[str] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Events after a position, in order, of one stream and of some kinds if asked; waits for more at the end of the log.

    Ends once `stop()` is true; what was appended before that is still yielded.
    """
    with closing(log.subscribe()) as subscription:
        while True:
            # Asked before reading, so that what was appended until then is still yielded.
            last = stop()
            end = log.head().position
            for event in log.read(stream, after=after, kinds=kinds):
                after = event.position
                yield event
            # Skips events of other streams and kinds next time.
            after = max(after, end)
            if last:
                return
            subscription.wait(POLL_INTERVAL_S)
