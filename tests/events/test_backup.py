"""A backup is one moment of a log, sound, in a file of its own, also while a run writes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from events.facts.errors import BadInput, LogCorrupt, LogError
from events.maintenance import backup
from events.stores import open_log
from tests.support.damaged_logs import execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed
from tests.support.paths import ROOT


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    where: Path | str = tmp_path / "log.sqlite"
    if request.param == "postgres":
        where = f"{request.getfixturevalue('postgres')}?run=backup{os.getpid()}-{abs(hash(request.node.name))}"
    log = open_log(where, create=True)
    example_run(log).run().goalpost(2).play().update()
    log.append("keyed", [episode_failed()], key="k")
    log.close()
    return where


def test_a_backup_is_the_log(where: Path | str, tmp_path: Path) -> None:
    log, target = open_log(where), tmp_path / "new" / "backup.sqlite"
    assert backup(where, target) == log.head()
    copy = open_log(target)
    assert list(copy.read()) == list(log.read())
    assert copy.recorded("keyed", "k") == log.recorded("keyed", "k")
    assert copy.verify() is None
    copy.close()
    assert os.listdir(target.parent) == ["backup.sqlite"]


def test_a_backup_while_a_run_writes_is_one_moment_of_it(where: Path | str, tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.support.log_writer", str(where), "w", "100000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    for _ in range(10):
        writer.stdout.readline()
    heads = [backup(where, tmp_path / f"{number}.sqlite") for number in range(3)]
    writer.kill()
    writer.communicate()
    log = open_log(where)
    assert len(set(heads)) == 3, "nothing was written meanwhile"
    for number, head in enumerate(heads):
        copy = open_log(tmp_path / f"{number}.sqlite")
        assert copy.head() == head
        assert next(log.read(after=head.position - 1)).head == head.digest
        assert list(copy.read()) == list(log.read(limit=head.position))


def test_a_backup_never_replaces_a_file(where: Path | str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    with pytest.raises(BadInput, match="exists; give the backup a new name"):
        backup(where, target)
    assert target.read_text() == "mine"


def test_a_log_that_is_not_found_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no log at"):
        backup(tmp_path / "log.sqlite", tmp_path / "backup.sqlite")
    (tmp_path / "log.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(BadInput, match="is not a GASP log"):
        backup(tmp_path / "log.sqlite", tmp_path / "backup.sqlite")
    assert os.listdir(tmp_path) == ["log.sqlite"]


def test_a_backup_of_a_broken_log_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = open_log(path, create=True)
    example_run(log).run().goalpost(2).play()
    log.close()
    execute_without_triggers(path, "UPDATE events SET head = prev_hash WHERE position = 6")
    with pytest.raises(LogCorrupt, match=r"backup of .*log\.sqlite is wrong at position 6: .*; verify the log"):
        backup(path, tmp_path / "new" / "backup.sqlite")
    assert os.listdir(tmp_path / "new") == []


def test_a_backup_onto_a_full_disk_is_told_and_leaves_nothing(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.sqlite"
    log = open_log(path, create=True)
    log.put(os.urandom(1_000_000))
    log.append("run", [episode_failed()])
    with pytest.raises(LogError, match=r"backup .* cannot be written \(No space left on device\); choose another place"):
        backup(path, small_disk / "backup.sqlite")
    assert os.listdir(small_disk) == []


def test_a_backup_copied_back_is_the_log_again(where: Path | str, tmp_path: Path) -> None:
    head = backup(where, tmp_path / "backup.sqlite")
    shutil.copy(tmp_path / "backup.sqlite", tmp_path / "again.sqlite")
    again = open_log(tmp_path / "again.sqlite")
    again.append("run", [episode_failed()], expected=again.version("run"))
    assert (again.head().position, again.verify()) == (head.position + 1, None)
