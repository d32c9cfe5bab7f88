"""The log in a SQLite file: the contract, what an opened file may be, and what tampering looks like."""

import itertools
import os
import sqlite3
import zlib
from pathlib import Path

import pytest

from events.facts.errors import BadInput, LogCorrupt, LogError
from events.facts.types import GoalpostAdded
from events.facts.values import BlobHash
from events.stores import open_log
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import SCHEMA_VERSION, create
from tests.support.damaged_logs import corrupt_pages, execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.log_contract import LogContract, MakeLog, episode_failed


class TestSqliteLog(LogContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> MakeLog:
        numbers = itertools.count()

        def make(**options: object) -> SqliteLog:
            path = tmp_path / f"{next(numbers)}.sqlite"
            create(path)
            return SqliteLog(path, **options)

        return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log_file(path: Path) -> Path:
    log = open_log(path, create=True)
    example_run(log).run().goalpost(2).play().update()
    log.append("keyed", [episode_failed()], key="k")
    log.close()
    return path


@pytest.mark.parametrize("content", [zlib.compress(b"something else"), b"not zlib at all"])
def test_verify_names_the_first_event_with_a_changed_blob(log_file: Path, content: bytes) -> None:
    log = open_log(log_file)
    blob = next(event.fact.blob for event in log.read(kinds=("goalpost_added",)))
    log.close()
    execute_without_triggers(log_file, f"UPDATE blobs SET content = x'{content.hex()}' WHERE hash = '{blob}'")
    log = open_log(log_file)
    assert (broken := log.verify()) is not None
    assert broken.position == 2
    assert blob in broken.problem
    with pytest.raises(LogCorrupt, match=blob):
        log.get(blob)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 1",
        "INSERT OR REPLACE INTO events SELECT 999, stream, version, kind, schema_version, data, causation,"
        " prev_hash, hash, head, time, observed FROM events WHERE position = 1",
        "INSERT OR REPLACE INTO keys SELECT stream, key, 1, 1 FROM keys",
    ],
)
def test_the_database_itself_refuses_to_replace_what_is_recorded(log_file: Path, statement: str) -> None:
    db = sqlite3.connect(log_file)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    db.close()
    assert open_log(log_file).verify() is None


def test_the_database_keeps_a_blob_that_is_inserted_again(log_file: Path) -> None:
    db = sqlite3.connect(log_file, isolation_level=None)
    db.execute("INSERT OR REPLACE INTO blobs SELECT hash, 0, x'00' FROM blobs")
    db.close()
    assert open_log(log_file).verify() is None


def test_staged_blobs_are_durable_with_the_next_append_and_not_before(path: Path) -> None:
    writer, reader = open_log(path, create=True), open_log(path)
    blob = writer.put(b"content")
    with pytest.raises(LogCorrupt, match="missing"):
        reader.get(blob)
    writer.append("goalposts", [GoalpostAdded(question="q", blob=blob, source="s")])
    assert reader.get(blob) == b"content"


def test_blobs_are_compressed_and_stored_once(path: Path) -> None:
    log = open_log(path, create=True)
    for _ in range(3):
        blob = log.put(b"a" * 100_000)
        log.append("goalposts", [GoalpostAdded(question="q", blob=blob, source="s")])
    rows = sqlite3.connect(path).execute("SELECT hash, size, length(content) FROM blobs").fetchall()
    assert [(hash_, size) for hash_, size, _ in rows] == [(blob, 100_000)]
    assert rows[0][2] < 1000


def test_a_long_read_keeps_no_one_from_writing_and_holds_no_snapshot(path: Path) -> None:
    log, other = open_log(path, create=True), open_log(path)
    log.append("run", [episode_failed(str(number)) for number in range(1500)])
    reading = log.read()
    next(reading)
    other.append("run", [episode_failed("later")])
    busy, *_ = sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    assert len(list(reading)) == 1499


def test_a_missing_log_is_bad_input(path: Path) -> None:
    with pytest.raises(BadInput, match=r"no log at .*log\.sqlite; give"):
        open_log(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"hello" * 1000])
def test_a_file_that_is_no_log_is_bad_input(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is not a GASP log; give"):
        open_log(path)
    assert path.read_bytes() == content


def test_create_leaves_other_databases_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="is not a GASP log"):
        open_log(path, create=True)
    assert path.read_bytes() == before


def test_create_opens_an_existing_log(log_file: Path) -> None:
    before = open_log(log_file).head()
    assert open_log(log_file, create=True).head() == before


def test_a_log_of_another_schema_is_bad_input(log_file: Path) -> None:
    execute_without_triggers(log_file, f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(BadInput, match=r"has schema 4, this version reads schemas 1 to 3; use"):
        open_log(log_file)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match=r"cannot be made \(.*\); choose"):
        open_log(tmp_path / "file" / "run" / "log.sqlite", create=True)


def test_a_damaged_page_is_told_by_verify_and_by_reading(log_file: Path) -> None:
    corrupt_pages(log_file)
    log = open_log(log_file)
    with pytest.raises(LogCorrupt, match=r"is damaged .*; restore"):
        list(log.read())
    with pytest.raises(LogCorrupt, match="is damaged"):
        log.verify()


def test_a_truncated_file_is_told(log_file: Path) -> None:
    os.truncate(log_file, os.path.getsize(log_file) // 2 // 4096 * 4096)
    with pytest.raises(LogCorrupt, match="is damaged"):
        list(open_log(log_file).read())


def test_an_event_of_an_unknown_kind_asks_for_a_newer_version(log_file: Path) -> None:
    execute_without_triggers(log_file, "UPDATE events SET kind = 'goalpost_moved' WHERE position = 2")
    with pytest.raises(LogError, match=r"Position 2 has the unknown kind 'goalpost_moved'; .*newer"):
        list(open_log(log_file).read())


def test_an_event_of_a_newer_schema_asks_for_a_newer_version(log_file: Path) -> None:
    execute_without_triggers(log_file, "UPDATE events SET schema_version = 2 WHERE position = 2")
    with pytest.raises(LogError, match=r"There is no way to read goalpost_added of schema 2, .*newer"):
        list(open_log(log_file).read())


def test_data_that_does_not_fit_its_kind_is_named(log_file: Path) -> None:
    execute_without_triggers(log_file, 'UPDATE events SET data = \'{"kind":"goalpost_added"}\' WHERE position = 2')
    with pytest.raises(LogCorrupt, match=r"Position 2 \(goalpost_added\) cannot be read: 3 wrong fields; run verify"):
        list(open_log(log_file).read())


def test_a_blob_hash_that_is_no_hash_does_not_stop_verify(path: Path) -> None:
    log = open_log(path, create=True)
    log.append("goalposts", [GoalpostAdded(question="q", blob=BlobHash("zz"), source="s")])
    assert (broken := log.verify()) is not None
    assert broken.position == 1
