"""A log moves between stores with everything that it says, and back."""

import itertools
import shutil
from pathlib import Path

import pytest

from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Log
from events.maintenance import migrate
from events.stores import open_log
from events.stores.paging import PAGE_SIZE
from events.stores.raw import Store
from tests.support.damaged_logs import execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden" / "log-schema-1.sqlite"
RUNS = itertools.count()


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """A log with more than one transaction's events, with keys and measures."""
    log = open_log(tmp_path / "source.sqlite", create=True)
    example_run(log).run().goalpost(2).play().update()
    log.append("keyed", [episode_failed("a"), episode_failed("b")], key="k", observed={"seconds": 1.5})
    log.append("keyed", [], key="nothing")
    log.append("long", [episode_failed(str(number)) for number in range(PAGE_SIZE)], causation=1)
    return log


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "postgres":
        return open_log(f"{request.getfixturevalue('postgres')}?run=migrate{next(RUNS)}", create=True)
    return open_log(tmp_path / "target.sqlite", create=True)


def assert_equal(one: Log, other: Log) -> None:
    assert list(one.read()) == list(other.read())
    assert one.head() == other.head()
    assert other.verify() is None
    assert [one.recorded("keyed", key) for key in ("k", "nothing")] == [
        other.recorded("keyed", key) for key in ("k", "nothing")
    ]


def test_a_migrated_log_says_the_same_with_the_same_hashes_and_goes_on(source: Store, target: Store) -> None:
    assert migrate(source, target) == (source.head(), source.head().position)
    assert_equal(source, target)
    for log in (source, target):
        log.append("keyed", [episode_failed("c")], expected=2)
    assert source.head() == target.head()


def test_there_and_back_again(source: Store, target: Store, tmp_path: Path) -> None:
    back = open_log(tmp_path / "back.sqlite", create=True)
    migrate(source, target)
    migrate(target, back)
    assert_equal(source, back)


def test_a_log_of_schema_1_migrates(target: Store, tmp_path: Path) -> None:
    shutil.copy(GOLDEN, tmp_path / "old.sqlite")
    old = open_log(tmp_path / "old.sqlite")
    migrate(old, target)
    assert list(old.read()) == list(target.read())


def test_a_migration_that_was_cut_short_goes_on_where_it_stopped(source: Store, target: Store) -> None:
    def cut(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(source, target, cut)
    assert (target.head().position, target.verify()) == (PAGE_SIZE, None)
    assert migrate(source, target).events == source.head().position - PAGE_SIZE
    assert_equal(source, target)


def test_what_was_appended_since_follows_with_a_second_migration(source: Store, target: Store) -> None:
    migrate(source, target)
    source.append("keyed", [episode_failed()], key="later")
    assert migrate(source, target).events == 1
    assert target.recorded("keyed", "later") == source.recorded("keyed", "later")


def test_progress_is_told_of_copying_and_then_of_verifying(source: Store, target: Store) -> None:
    messages: list[tuple[int, int]] = []
    migrate(source, target, lambda done, total: messages.append((done, total)))
    total = source.head().position
    assert messages == [(PAGE_SIZE, total), (total, total)] * 2


def test_a_target_that_holds_another_log_is_refused_and_stays(source: Store, target: Store) -> None:
    target.append("run", [episode_failed()])
    before = target.head()
    with pytest.raises(BadInput, match=r"target holds another log, .*; give an empty one"):
        migrate(source, target)
    assert (target.head(), target.verify()) == (before, None)


def test_a_target_that_is_ahead_is_refused(source: Store, target: Store) -> None:
    migrate(source, target)
    target.append("run", [episode_failed()])
    with pytest.raises(BadInput, match="give an empty target"):
        migrate(source, target)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE events SET data = replace(data, 'm', 'n') WHERE position = 400", "broken at position 400: its content"),
        ("DELETE FROM events WHERE position > 400", "its tail was cut off or changed; repair"),
        ("DELETE FROM blobs WHERE rowid > 3", "is missing"),
    ],
)
def test_a_broken_log_does_not_migrate_unnoticed(source: Store, tmp_path: Path, statement: str, problem: str) -> None:
    source.close()
    execute_without_triggers(tmp_path / "source.sqlite", statement)
    target = open_log(tmp_path / "target.sqlite", create=True)
    with pytest.raises(LogCorrupt, match=problem):
        migrate(open_log(tmp_path / "source.sqlite"), target)
    assert target.verify() is None
    assert target.head().position < 401
