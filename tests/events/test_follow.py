"""Following a log, and consumers whose rows and position are one: on every store, over crashes and beside others."""

import itertools
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.consumers import BATCH_SIZE, Consumer
from events.facts.errors import LogCorrupt
from events.facts.follow import follow
from events.facts.log import Event, Log
from events.facts.types import RunFinished
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.stores.postgres_location import PostgresLocation
from tests.support.log_contract import episode_failed
from tests.support.processes import start_module

RUNS = itertools.count()
Open = Callable[[], Log]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same new log again and again, as many processes would."""
    if request.param == "memory":
        log = MemoryLog()
        return lambda: log
    where = str(tmp_path / "log.sqlite")
    if request.param == "postgres":
        where = f"{request.getfixturevalue('postgres')}?run=follow{next(RUNS)}"
    open_log(where, create=True).close()
    return lambda: open_log(where)


def test_a_subscription_reports_appends_by_anybody_and_says_so_once(opened: Open) -> None:
    mine, other = opened(), opened()
    mine.append("run", [episode_failed()])
    with closing(mine.subscribe()) as subscription:
        assert not subscription.wait(0.05)
        for log in (mine, other):
            log.append("run", [episode_failed()])
            assert subscription.wait(10)
            assert not subscription.wait(0.05)


def test_a_watch_wakes_up_soon(opened: Open) -> None:
    log, other = opened(), opened()
    with closing(log.subscribe()) as subscription:
        appended: list[float] = []
        timer = threading.Timer(0.2, lambda: appended.append(other.append("run", [episode_failed()])[0].time.timestamp()))
        timer.start()
        assert subscription.wait(30)
        woken = time.time()
        timer.join()
    assert woken - appended[0] < 5


def test_follow_tells_what_was_and_what_comes_and_ends_when_asked(opened: Open) -> None:
    log, other = opened(), opened()
    log.append("run", [episode_failed(str(number)) for number in range(3)])
    ended = threading.Event()

    def write() -> None:
        for number in range(3, 40):
            other.append("run", [episode_failed(str(number))])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    events = [event.fact.message for event in follow(log, after=1, stop=ended.is_set)]
    writer.join()
    assert events == [str(number) for number in range(1, 40)]


def test_follow_can_be_of_one_stream_and_of_some_kinds(opened: Open) -> None:
    log = opened()
    for number in range(5):
        log.append("ab"[number % 2], [episode_failed(), RunFinished(iterations=number)])
    events = follow(log, "a", kinds=("run_finished",), stop=lambda: True)
    assert [event.fact.iterations for event in events] == [0, 2, 4]


def write_message(db: sqlite3.Connection, event: Event) -> None:
    db.execute("INSERT INTO seen VALUES (?, ?)", (event.position, event.fact.message))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path)) as db:
        db.execute("CREATE TABLE seen (position integer, message text)")
        yield db


def connect(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "figures.sqlite", isolation_level=None)


def positions(db: sqlite3.Connection) -> list[int]:
    return [position for (position,) in db.execute("SELECT position FROM seen ORDER BY rowid")]


def test_a_consumer_consumes_every_event_once_and_remembers_where_it_is(opened: Open, db: sqlite3.Connection) -> None:
    log = opened()
    log.append("run", [episode_failed() for _ in range(BATCH_SIZE + 3)])
    consumer = Consumer(log, "mine", db, write_message)
    assert (consumer.position, consumer.catch_up(), consumer.position) == (0, BATCH_SIZE + 3, BATCH_SIZE + 3)
    log.append("run", [episode_failed()])
    assert [Consumer(opened(), "mine", db, write_message).catch_up() for _ in range(2)] == [1, 0]
    assert positions(db) == list(range(1, BATCH_SIZE + 5))


def test_a_consumer_may_write_the_rows_of_a_transaction_together(opened: Open, db: sqlite3.Connection) -> None:
    log, sizes = opened(), []

    def write_batch(db: sqlite3.Connection, events: Iterator[Event]) -> None:
        batch = list(events)
        sizes.append(len(batch))
        for event in batch:
            write_message(db, event)

    log.append("run", [episode_failed() for _ in range(BATCH_SIZE + 3)])
    consumer = Consumer(log, "mine", db, write_batch=write_batch)
    assert (consumer.catch_up(), consumer.position, consumer.catch_up()) == (BATCH_SIZE + 3, BATCH_SIZE + 3, 0)
    assert [size for size in sizes if size] == [BATCH_SIZE, 3]
    assert positions(db) == list(range(1, BATCH_SIZE + 4))


def test_a_consumer_that_fails_keeps_neither_rows_nor_position(db: sqlite3.Connection) -> None:
    log = MemoryLog()
    log.append("run", [episode_failed("good"), episode_failed("bad")])

    def write(db: sqlite3.Connection, event: Event) -> None:
        write_message(db, event)
        if event.fact.message == "bad":
            raise RuntimeError("cannot")

    consumer = Consumer(log, "mine", db, write)
    with pytest.raises(RuntimeError, match="cannot"):
        consumer.catch_up()
    assert (positions(db), consumer.position) == ([], 0)
    assert Consumer(log, "mine", db, write_message).catch_up() == 2


def test_consumers_of_one_database_have_positions_of_their_own(db: sqlite3.Connection) -> None:
    log = MemoryLog()
    log.append("run", [episode_failed()])
    one, other = (Consumer(log, name, db, write_message) for name in ("one", "other"))
    one.catch_up()
    assert (one.position, other.position) == (1, 0)


def test_a_consumer_of_some_kinds_stays_behind_the_one_whose_rows_it_reads(db: sqlite3.Connection) -> None:
    log = MemoryLog()
    for number in range(6):
        log.append("run", [episode_failed() if number % 2 else RunFinished(iterations=1)])
    first = Consumer(log, "first", db, lambda db, event: None)
    second = Consumer(log, "second", db, write_message, kinds=["episode_failed"], behind="first")
    assert second.catch_up() == 0
    first.catch_up()
    log.append("run", [episode_failed()])
    assert second.catch_up() == 3
    assert positions(db) == [2, 4, 6]
    first.catch_up()
    assert second.catch_up() == 1
    assert positions(db) == [2, 4, 6, 7]


def test_a_consumer_follows_until_it_is_told_to_stop(opened: Open, db: sqlite3.Connection) -> None:
    log, other, ended = opened(), opened(), threading.Event()

    def write() -> None:
        for _ in range(20):
            other.append("run", [episode_failed()])
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    Consumer(log, "mine", db, write_message).follow(ended.is_set)
    writer.join()
    assert positions(db) == list(range(1, 21))


def test_rows_of_another_log_are_refused(opened: Open, db: sqlite3.Connection) -> None:
    log, other = opened(), MemoryLog()
    for source, message in ((log, "a"), (other, "b")):
        source.append("run", [episode_failed(message)])
    Consumer(log, "mine", db, write_message).catch_up()
    with pytest.raises(LogCorrupt, match=r"rows of consumer 'mine' come from another log, .*; verify"):
        Consumer(other, "mine", db, write_message).catch_up()
    with pytest.raises(LogCorrupt, match="a tail that was cut off"):
        Consumer(MemoryLog(), "mine", db, write_message).catch_up()


def test_consumers_in_postgresql_share_the_work_and_count_each_event_once(postgres: str) -> None:
    url = f"{postgres}?run=follow{next(RUNS)}"
    log = open_log(url, create=True)
    log.append("run", [episode_failed() for _ in range(2 * BATCH_SIZE)])
    with PostgresLocation.parse(url).connect() as db:
        db.execute("CREATE TABLE seen (position bigint, worker text)")

    def work(name: str) -> None:
        with PostgresLocation.parse(url).connect() as db:
            row = "INSERT INTO seen VALUES (%s, %s)"
            Consumer(open_log(url), "mine", db, lambda db, event: db.execute(row, (event.position, name))).catch_up()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with PostgresLocation.parse(url).connect() as db:
        positions = [position for (position,) in db.execute("SELECT position FROM seen ORDER BY position")]
    assert positions == list(range(1, 2 * BATCH_SIZE + 1))
    assert log.verify() is None


def test_kill_9_of_a_consumer_doubles_and_loses_nothing(tmp_path: Path, db: sqlite3.Connection) -> None:
    log = open_log(tmp_path / "log.sqlite", create=True)
    killed = 0
    for life in range(8):
        for _ in range(BATCH_SIZE // 2):
            log.append("run", [episode_failed() for _ in range(4)])
        consumer = start_module("tests.support.log_consumer", tmp_path)
        assert consumer.stdout is not None
        consumer.stdout.readline()
        time.sleep(0.004 * life)
        consumer.send_signal(signal.SIGKILL)
        killed += consumer.wait() == -signal.SIGKILL
        consumer.stdout.close()
    assert killed > 0
    assert len(positions(db)) == Consumer(log, "killed", db, write_message).position
    Consumer(log, "killed", db, write_message).catch_up()
    assert positions(db) == list(range(1, 8 * 4 * (BATCH_SIZE // 2) + 1))
