"""What a log survives, in a file or in PostgreSQL: several processes, kill -9; and what a file survives besides."""

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from events.facts.errors import LogError
from events.stores import open_log
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed
from tests.support.log_writer import acknowledged, assert_holds, start_writer

RUNS = itertools.count()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "log.sqlite")
    return f"{request.getfixturevalue('postgres')}?run=durable{next(RUNS)}"


def test_processes_append_at_once_without_loss_gap_or_fork(where: str) -> None:
    acknowledgements = [pair for process in [start_writer(where, name, 60) for name in "abc"] for pair in acknowledged(process)]
    log = open_log(where)
    assert len(acknowledgements) == 180
    assert log.head().position == 360
    assert [event.version for event in log.read("shared")] == list(range(1, 181))
    for name in "abc":
        own = [event.fact.message for event in log.read(kinds=("episode_failed",)) if event.fact.error == name]
        assert own == [str(number) for number in range(60)]
    assert_holds(log, acknowledgements)


def test_processes_that_decide_on_versions_conflict_instead_of_overwriting(tmp_path: Path) -> None:
    first, second = open_log(tmp_path / "log.sqlite", create=True), open_log(tmp_path / "log.sqlite")
    first.append("episode/1", [episode_failed("first")], expected=0)
    with pytest.raises(LogError, match="at version 1, not at 0"):
        second.append("episode/1", [episode_failed("second")], expected=0)
    assert [event.fact.message for event in second.read()] == ["first"]


def test_kill_9_loses_nothing_acknowledged_and_leaves_nothing_torn(where: str) -> None:
    dice, acknowledgements = random.Random(0), []
    for life in range(6):
        process = start_writer(where, f"life{life}", 100_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0.01, 0.15))
        process.send_signal(signal.SIGKILL)
        acknowledgements += acknowledged(process)
    assert_holds(open_log(where), acknowledgements)


def test_a_torn_write_ahead_file_ends_the_log_at_a_whole_append(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    process = start_writer(path, "torn", 100_000)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged(process)
    ahead = path.with_name("log.sqlite-wal").stat().st_size
    lengths = []
    for cut in (0, 1, 5_000, ahead // 3, ahead // 2):
        torn = tmp_path / f"{cut}.sqlite"
        for name in ("", "-wal"):
            shutil.copy(f"{path}{name}", f"{torn}{name}")
        os.truncate(f"{torn}-wal", ahead - cut)
        log = open_log(torn)
        assert log.verify() is None
        lengths.append(log.head().position)
        assert lengths[-1] % 2 == 0
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < lengths[0]


def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path) -> None:
    log = open_log(small_disk / "log.sqlite", create=True)
    example_run(log).run().goalpost()
    before = log.head()
    log.put(os.urandom(2_000_000))
    with pytest.raises(LogError, match=r"disk is full, so the log .* took nothing of this append; free space and resume"):
        log.append("run", [episode_failed()])
    assert log.head() == before
    assert log.verify() is None
    log.close()
    again = open_log(small_disk / "log.sqlite")
    again.append("run", [episode_failed("small")])
    assert again.verify() is None
    again.close()


def test_a_file_that_may_not_grow_is_told_and_loses_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log.sqlite", create=True)
    log.append("run", [episode_failed()])
    before, limits = log.head(), resource.getrlimit(resource.RLIMIT_FSIZE)
    log.put(os.urandom(2_000_000))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(LogError, match=r"cannot be read or written .*; check the disk"):
            log.append("run", [episode_failed()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert log.head() == before
    log.append("run", [episode_failed()])
    assert log.verify() is None


def test_a_read_only_disk_is_told(small_disk: Path) -> None:
    path = small_disk / "log.sqlite"
    open_log(path, create=True).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with closing(open_log(path)) as log:
        assert log.verify() is None
        with pytest.raises(LogError, match=r"is read-only; make the file and its directory writable"):
            log.append("run", [episode_failed()])
    with pytest.raises(LogError, match=r"cannot be made \(Read-only file system\); choose"):
        open_log(small_disk / "other.sqlite", create=True)
