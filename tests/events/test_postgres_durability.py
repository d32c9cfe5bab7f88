"""What a log in PostgreSQL survives: a crash of the server, a full disk, a bad page."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from events.facts.errors import LogCorrupt, LogError
from events.stores import open_log
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed
from tests.support.log_writer import acknowledged, assert_holds, start_writer
from tests.support.postgres_server import PostgresServer


def test_a_crash_of_the_server_loses_nothing_acknowledged(own_postgres: PostgresServer) -> None:
    url, acknowledgements = f"{own_postgres.url}?run=crash", []
    for _ in range(2):
        process = start_writer(url, "w", 100_000)
        assert process.stdout is not None
        for _ in range(30):
            process.stdout.readline()
        own_postgres.stop("immediate")
        acknowledgements += acknowledged(process)
        assert process.returncode == 1
        own_postgres.start()
    assert_holds(open_log(url), acknowledgements)


def test_a_log_outlives_a_restart_of_its_server(own_postgres: PostgresServer) -> None:
    log = open_log(own_postgres.url, create=True)
    log.append("run", [episode_failed()])
    own_postgres.stop()
    with pytest.raises(LogError, match=r"cannot be reached .*; start it"):
        log.append("run", [episode_failed()])
    own_postgres.start()
    assert log.append("run", [episode_failed()])[0].position == 2
    assert log.verify() is None


def test_a_damaged_page_is_told_by_verify_and_by_reading(own_postgres: PostgresServer) -> None:
    log = open_log(own_postgres.url, create=True)
    example_run(log).run().goalpost(2).play()
    log.close()
    with psycopg.connect(own_postgres.url, autocommit=True) as db:
        db.execute("CHECKPOINT")
        (name,) = db.execute("SELECT pg_relation_filepath('gasp.events')").fetchone() or ("",)
    own_postgres.stop()
    with (own_postgres.data / str(name)).open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * 64)
    own_postgres.start()
    log = open_log(own_postgres.url)
    with pytest.raises(LogCorrupt, match=r"is damaged .*; restore"):
        list(log.read())
    broken = log.verify()
    assert broken is not None
    assert broken.position == 1
    assert "is damaged" in broken.problem


def test_a_full_disk_is_told_and_loses_nothing(own_postgres: PostgresServer, small_disk: Path) -> None:
    room = small_disk / "room"
    room.mkdir()
    if os.geteuid() == 0:
        # The server's user must be able to get there.
        above = itertools.takewhile(lambda folder: folder != Path(tempfile.gettempdir()), small_disk.parents)
        for folder in (small_disk, *above):
            folder.chmod(0o755)
        shutil.chown(room, "postgres", "postgres")
    log = open_log(own_postgres.url, create=True)
    example_run(log).run().goalpost()
    with psycopg.connect(own_postgres.url, autocommit=True) as db:
        db.execute(f"CREATE TABLESPACE small LOCATION '{room}'")
        db.execute("ALTER TABLE gasp.blobs SET TABLESPACE small")
    before = log.head()
    log.put(os.urandom(2_000_000))
    with pytest.raises(LogError, match=r"disk is full, so the log .* took nothing of this append; free space and resume"):
        log.append("run", [episode_failed()])
    assert log.head() == before
    assert log.verify() is None
    again = open_log(own_postgres.url)
    again.append("run", [episode_failed("small")])
    assert again.verify() is None


@pytest.mark.parametrize("password", [None, "not-this-one"])
def test_a_missing_or_wrong_password_is_told_with_where_it_comes_from(
    guarded_postgres: str, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    open_log(guarded_postgres, create=True).close()
    monkeypatch.delenv("PGPASSWORD")
    if password is not None:
        monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(LogError, match="without the right password; set PGPASSWORD or use"):
        open_log(guarded_postgres)
