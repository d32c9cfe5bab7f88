"""Appends that wait together share a commit, and each still has an outcome of its own."""

import threading
import time
from collections.abc import Sequence

import pytest

from events.facts.errors import InDoubt, LogError
from events.facts.log import Event
from events.stores.commit_queue import AppendOutcome, CommitQueue
from events.stores.transaction import AppendRequest


class FakeStore:
    """Commits nothing, but says what it was asked; holds the first commit until it is released."""

    def __init__(self, error: LogError | None = None) -> None:
        self.groups: list[list[str]] = []
        self.threads: list[threading.Thread] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.error = error

    def commit(self, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
        self.groups.append([request.stream for request in requests])
        self.threads.append(threading.current_thread())
        self.entered.set()
        assert self.go.wait(10)
        if self.error is not None and any(request.stream == "large" for request in requests):
            raise self.error
        return [list[Event]() for _ in requests]


def test_an_append_alone_commits_on_its_own_thread() -> None:
    store = FakeStore()
    store.go.set()
    assert CommitQueue(store.commit).append(AppendRequest("a", [])) == []
    assert store.threads == [threading.current_thread()]


def queued(store: FakeStore, group: CommitQueue, *streams: str) -> list[AppendOutcome]:
    """What came of appends that all wait while another one commits."""
    first = group.submit(AppendRequest("first", []))
    assert store.entered.wait(10)
    waiting = [group.submit(AppendRequest(stream, [])) for stream in streams]
    store.go.set()
    assert first.result(10) == []
    return [append.exception(10) or append.result() for append in waiting]


def test_appends_that_wait_share_one_commit_in_their_order() -> None:
    store = FakeStore()
    assert queued(store, CommitQueue(store.commit), "a", "b", "c") == [[], [], []]
    assert store.groups == [["first"], ["a", "b", "c"]]


def test_one_append_that_fails_does_not_fail_its_neighbours() -> None:
    error = LogError("disk full")
    store = FakeStore(error)
    assert queued(store, CommitQueue(store.commit), "a", "large", "c") == [[], error, []]
    assert store.groups == [["first"], ["a", "large", "c"], ["a"], ["large"], ["c"]]


def test_appends_whose_commit_is_in_doubt_are_not_repeated() -> None:
    error = InDoubt("lost")
    store = FakeStore(error)
    assert queued(store, CommitQueue(store.commit), "a", "large") == [error, error]
    assert store.groups == [["first"], ["a", "large"]]


def test_a_failed_commit_leaves_the_line_open() -> None:
    store = FakeStore(LogError("disk full"))
    store.go.set()
    group = CommitQueue(store.commit)
    with pytest.raises(LogError, match="disk full"):
        group.append(AppendRequest("large", []))
    assert group.append(AppendRequest("small", [])) == []


def test_the_writer_ends_when_nothing_comes_and_a_new_one_starts_when_something_does() -> None:
    store = FakeStore()
    store.go.set()
    group = CommitQueue(store.commit, linger_s=0.01)
    assert group.submit(AppendRequest("a", [])).result(10) == []
    writer = store.threads[0]
    writer.join(10)
    assert not writer.is_alive()
    assert group.submit(AppendRequest("b", [])).result(10) == []
    assert store.threads[1] is not writer


def test_flush_returns_when_all_is_committed() -> None:
    store = FakeStore()
    group = CommitQueue(store.commit)
    waiting = [group.submit(AppendRequest(stream, [])) for stream in "abc"]
    threading.Timer(0.05, store.go.set).start()
    began = time.monotonic()
    group.flush()
    assert all(append.done() for append in waiting)
    assert time.monotonic() - began >= 0.04
