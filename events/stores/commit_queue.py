"""Group-commit queue: appends waiting for the store share one transaction, and so one fsync.

Guarantees: one commit at a time; appends keep their order; each has its own outcome.

An append that finds the store idle commits on its caller's thread, so that a single producer pays for no hand-over. All others
wait for the one writer thread, which commits everything that waits, and ends when nothing has come for a while.
Not responsible for: databases. `commit` is given.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from events.facts.errors import InDoubt, LogError
from events.facts.log import Event
from events.stores.transaction import AppendRequest, TransactionPlan

MAX_GROUP = 512
"""Most appends that share a transaction."""
LINGER_S = 1.0
"""Seconds that the writer thread waits for more before it ends."""
CLOSE_TIMEOUT_S = 60.0
"""Seconds that closing a store waits for its last appends."""


AppendOutcome = list[Event] | Exception
"""The events of an append, or the error that its caller gets."""


@dataclass(frozen=True)
class PendingAppend:
    """An append that has no outcome yet."""

    request: AppendRequest
    outcome: Future[list[Event]] = field(default_factory=Future)


class CommitQueue:
    """Group-commit queue of a store."""

    def __init__(self, commit: Callable[[Sequence[AppendRequest]], list[AppendOutcome]], *, linger_s: float = LINGER_S) -> None:
        """Make an empty queue. The writer thread waits `linger_s` seconds for more before it ends.

        `commit` appends the requests in one transaction and returns an outcome for each. If it raises, nothing was appended,
        unless it raises `InDoubt`.
        """
        self._commit = commit
        self._linger_s = linger_s
        self._changed = threading.Condition()
        self._waiting: deque[PendingAppend] = deque()
        self._busy = False
        self._writer: threading.Thread | None = None

    def append(self, request: AppendRequest) -> list[Event]:
        """The events of the request. Returns when they are durable."""
        with self._changed:
            # An idle store: commit here, without a hand-over to the writer thread.
            alone = not self._busy and not self._waiting
            self._busy = self._busy or alone
            pending = None if alone else self._enqueue(request)
        if pending is not None:
            return pending.outcome.result()
        try:
            outcome = self._commit([request])[0]
        finally:
            self._release()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit(self, request: AppendRequest) -> Future[list[Event]]:
        """The same, without waiting."""
        with self._changed:
            return self._enqueue(request).outcome

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nobody commit while the block uses the store."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            yield
        finally:
            self._release()

    def flush(self) -> None:
        """Return when nothing waits any more, or after `CLOSE_TIMEOUT_S`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and not self._waiting, CLOSE_TIMEOUT_S)

    def _enqueue(self, request: AppendRequest) -> PendingAppend:
        pending = PendingAppend(request)
        # What is committed cannot be cancelled, so nothing can be.
        pending.outcome.set_running_or_notify_cancel()
        self._waiting.append(pending)
        if self._writer is None:
            # A daemon, so that a forgotten log does not keep its process alive; `close` waits for what was submitted.
            self._writer = threading.Thread(target=self._write, name="log writer", daemon=True)
            self._writer.start()
        self._changed.notify_all()
        return pending

    def _release(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _write(self) -> None:
        while group := self._next():
            self._settle(group)
            self._release()

    def _next(self) -> list[PendingAppend]:
        """Everything that waits, once the store is idle; nothing when the writer may end."""
        with self._changed:
            while self._busy or not self._waiting:
                if not self._changed.wait(self._linger_s) and not self._busy and not self._waiting:
                    self._writer = None
                    return []
            self._busy = True
            return [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]

    def _settle(self, group: Sequence[PendingAppend]) -> None:
        """Commit, and give every append its outcome. Raises nothing: errors go to those who wait."""
        outcomes: Sequence[list[Event] | BaseException]
        try:
            outcomes = self._commit([pending.request for pending in group])
        except BaseException as error:
            if len(group) > 1 and isinstance(error, LogError) and not isinstance(error, InDoubt):
                # One append too large for the disk must not fail its neighbours.
                for pending in group:
                    self._settle([pending])
                return
            outcomes = [error] * len(group)
        for pending, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                pending.outcome.set_exception(outcome)
            else:
                pending.outcome.set_result(outcome)


def plan_all(plan: TransactionPlan, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
    """Plan every request. One that cannot be planned leaves no trace in the plan; its error is its outcome."""
    outcomes: list[AppendOutcome] = []
    for request in requests:
        try:
            outcomes.append(plan.add(request))
        except Exception as error:  # one append's mistake must not fail the others
            outcomes.append(error)
    return outcomes
