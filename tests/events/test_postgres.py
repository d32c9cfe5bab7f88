"""The log in PostgreSQL, against a real server: the contract, what a place may be, and what tampering looks like."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from events.facts.errors import BadInput, Conflict, LogCorrupt, LogError
from events.facts.log import Event
from events.facts.types import GoalpostAdded
from events.stores import open_log
from events.stores.postgres import PostgresLog
from events.stores.postgres_location import PostgresLocation, create
from events.stores.raw import Store
from tests.support.damaged_logs import execute_in_postgres
from tests.support.example_runs import example_run
from tests.support.log_contract import LogContract, MakeLog, episode_failed

RUNS = itertools.count()


@pytest.fixture
def url(postgres: str) -> str:
    """A new run's URL; there is no log yet."""
    return f"{postgres}?run=test{next(RUNS)}"


@pytest.fixture
def log_url(url: str) -> str:
    """A log with a whole iteration, closed."""
    log = open_log(url, create=True)
    example_run(log).run().goalpost(2).play().update()
    log.append("keyed", [episode_failed()], key="k")
    log.close()
    return url


class TestPostgresLog(LogContract):
    @pytest.fixture
    def make(self, postgres: str) -> MakeLog:
        def make(**options: object) -> PostgresLog:
            place = PostgresLocation.parse(f"{postgres}?run=contract{next(RUNS)}")
            create(place)
            return PostgresLog(place, **options)

        return make


def test_a_log_of_schema_2_is_read_counted_and_appended_to_as_it_is(log_url: str) -> None:
    with closing(open_log(log_url)) as log:
        before = log.stats().tally
    execute_in_postgres(
        log_url, "ALTER TABLE tip DROP COLUMN tally", "DROP INDEX events_kind", "UPDATE mark SET schema_version = 2"
    )
    with closing(open_log(log_url)) as log:
        assert log.stats().tally == before
        log.append("run", [episode_failed()])
        assert log.stats().tally.kinds["episode_failed"] == before.kinds["episode_failed"] + 1
        assert log.verify() is None


@pytest.mark.parametrize(
    "statement", ["TRUNCATE events", "TRUNCATE blobs", "TRUNCATE tip", "INSERT INTO tip VALUES (2, 0, '')"]
)
def test_the_database_itself_refuses_to_empty_what_is_recorded(log_url: str, statement: str) -> None:
    with PostgresLocation.parse(log_url).connect() as db, pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        db.execute(statement)
    assert open_log(log_url).verify() is None


def test_runs_in_one_database_do_not_see_one_another(postgres: str) -> None:
    one, other = (open_log(f"{postgres}?run={name}", create=True) for name in ("one", "other-2.b"))
    one.append("run", [episode_failed("one")], key="k")
    other.append("run", [episode_failed("other")], key="k")
    assert [event.fact.message for event in one.read()] == ["one"]
    assert [event.fact.message for event in other.read()] == ["other"]
    assert other.verify() is None


def test_a_url_without_a_run_means_the_run_gasp(postgres: str) -> None:
    open_log(postgres, create=True).append("run", [episode_failed()])
    assert open_log(f"{postgres}?run=gasp").head().position == 1


def test_create_opens_an_existing_log(log_url: str) -> None:
    before = open_log(log_url).head()
    assert open_log(log_url, create=True).head() == before


def test_a_missing_log_is_bad_input(url: str) -> None:
    with pytest.raises(BadInput, match=r"no log at 127\.0\.0\.1/postgres, run test\d+; check the URL"):
        open_log(url)


def test_create_leaves_other_schemas_alone(url: str) -> None:
    place = PostgresLocation.parse(url)
    with place.connect() as db:
        db.execute(f"CREATE SCHEMA {place.run} CREATE TABLE mine (x text)")
    with pytest.raises(BadInput, match="There is no log at"):
        open_log(url, create=True)


def test_a_log_of_another_schema_is_bad_input(log_url: str) -> None:
    execute_in_postgres(log_url, "UPDATE mark SET schema_version = 4")
    with pytest.raises(BadInput, match=r"has schema 4, this version reads schemas 2 to 3; use"):
        open_log(log_url)


@pytest.mark.parametrize("run", ["", "Run", "a b", "pg_mine", "information_schema", "x" * 51, 'a";'])
def test_a_name_that_cannot_name_a_run_is_bad_input(run: str) -> None:
    with pytest.raises(BadInput, match="cannot name a run; use"):
        PostgresLocation.parse(f"postgresql://host/db?run={run}")


def test_no_message_shows_the_password() -> None:
    for url in ("postgresql://me:s3cret@127.0.0.1:1/db", "postgresql://me:s3cret@host:s3cret/db", "postgresql://me:s3cret@[/"):
        with pytest.raises((LogError, BadInput)) as caught:
            open_log(url)
        assert not any("s3cret" in str(cause) for cause in [caught.value, caught.value.__cause__])


def test_a_server_that_cannot_be_reached_is_told() -> None:
    with pytest.raises(LogError, match=r"server of the log 127\.0\.0\.1/db, run gasp cannot be reached .*; start it"):
        open_log("postgresql://127.0.0.1:1/db")


def test_a_read_only_server_is_told_and_can_be_read(log_url: str) -> None:
    log = open_log(f"{log_url}&options=-cdefault_transaction_read_only%3Don")
    with pytest.raises(LogError, match="is read-only; connect to the primary"):
        log.append("run", [episode_failed()])
    assert log.verify() is None


def cut(url: str, query: str = "true") -> None:
    """End the connections of everybody else."""
    with psycopg.connect(url.partition("?")[0], autocommit=True) as db:
        mine = "application_name = 'gasp log' AND pid <> pg_backend_pid()"
        db.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine} AND {query}")


@pytest.fixture(params=["the first append", "alone for two appends"])
def log(log_url: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A log that is about to append; after two appends it knows where the log ends."""
    with closing(open_log(log_url)) as log:
        for _ in range(0 if request.param == "the first append" else 2):
            log.append("run", [episode_failed()])
        yield log


def test_lost_connections_are_made_again(log_url: str, log: Store) -> None:
    before = log.head()
    cut(log_url)
    assert log.head() == before
    cut(log_url)
    assert log.append("run", [episode_failed()])[0].position == before.position + 1
    assert log.verify() is None


def test_an_append_whose_commit_was_lost_says_so_and_can_be_repeated_under_its_key(
    log_url: str, log: Store, waits: Callable[[str], None]
) -> None:
    before = log.head()
    with PostgresLocation.parse(log_url).connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE events IN SHARE MODE")
        pending = log.submit("run", [episode_failed()], key="once")
        waits(log_url)
        cut(log_url, "wait_event_type = 'Lock'")
        with pytest.raises(LogError, match=r"lost during a commit, so whether it happened is not known; .*key"):
            pending.result(10)
    assert log.append("run", [episode_failed()], key="once")[0].position == before.position + 1
    assert log.verify() is None


@pytest.fixture
def waits() -> Callable[[str], None]:
    def waits(url: str) -> None:
        """Return when some append waits for a lock."""
        with psycopg.connect(url.partition("?")[0], autocommit=True) as db:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gasp log' AND wait_event_type = 'Lock'"
            while db.execute(query).fetchone() == (0,):
                pass

    return waits


def test_an_append_waits_for_what_others_append_and_follows_it(log_url: str, log: Store, waits: Callable[[str], None]) -> None:
    with PostgresLocation.parse(log_url).connect() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE events IN SHARE MODE")
        with closing(open_log(log_url)) as other:
            theirs = other.submit("run", [episode_failed("theirs")])
            waits(log_url)
            ours = log.submit("run", [episode_failed("ours")])
            waits(log_url)
            blocker.execute("COMMIT")
            assert ours.result(10)[0].version == theirs.result(10)[0].version + 1
    assert log.verify() is None


def test_a_log_that_knows_its_end_asks_for_what_it_does_not_know(log_url: str) -> None:
    def appended(**options: Any) -> Event:
        return log.append(stream, [episode_failed()], **options)[0]

    with closing(open_log(log_url)) as log, closing(open_log(log_url)) as other:
        for stream in ("new", "new", "keyed", "new", "keyed"):
            before = log.version(stream)
            assert appended().version == before + 1
        stream = "keyed"
        assert appended(key="k").version == 1
        assert appended(key="l", expected=3) == appended(key="l", expected=3)
        with pytest.raises(Conflict, match="is at version 4, not at 3"):
            appended(expected=3)
        assert log.append(stream, [], key="nothing") == []
        theirs = other.append(stream, [episode_failed()], key="theirs")
        assert appended(key="theirs") == theirs[0]
        assert appended(expected=5).version == 6
        assert log.verify() is None


def test_blobs_are_compressed_and_stored_once(url: str) -> None:
    log = open_log(url, create=True)
    for _ in range(3):
        log.append("goalposts", [GoalpostAdded(question="q", blob=log.put(b"a" * 100_000), source="s")])
    with PostgresLocation.parse(url).connect() as db:
        assert db.execute("SELECT count(*), max(size), max(length(content)) < 1000 FROM blobs").fetchone() == (1, 100_000, True)


def test_an_unknown_blob_is_missing_there_too(log_url: str) -> None:
    with pytest.raises(LogCorrupt, match="is missing"):
        open_log(log_url).get("0" * 64)
