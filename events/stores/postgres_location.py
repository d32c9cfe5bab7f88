"""Location of a log in PostgreSQL: `postgresql://user@host/database?run=NAME`, one database schema a run.

Guarantees: several runs share a database without seeing one another; no message holds a URL, because it may hold a password.
Without `run`, the run's name is `gasp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from events.facts.errors import BadInput
from events.stores.postgres_errors import translate_errors
from events.text.secrets import is_secret

FIRST_SCHEMA, SCHEMA_VERSION = 2, 3
"""First and last schema that this version reads; kept in the table `mark`. See `events.stores.schema`."""
DEFAULT_RUN = "gasp"
"""Name of the run of a URL without one."""
CREATE_LOCK = 0x47415350
"""Advisory lock held while a log is made: `GASP` in ASCII."""

_RUN = re.compile(r"(?!pg_)[a-z0-9_][a-z0-9_.-]{0,49}")


@dataclass(frozen=True)
class PostgresLocation:
    """A run's schema in a database."""

    conninfo: str
    """Connection string of libpq; may hold a password."""
    run: str
    name: str
    """Name in messages: without user and password."""
    read_only: bool = False
    """Whether the server must refuse every write."""

    @classmethod
    def parse(cls, url: str) -> PostgresLocation:
        """The location in a URL.

        Raises:
            BadInput: it is not the URL of a log.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            run = options.pop("run", DEFAULT_RUN)
            conninfo = parts._replace(query=urlencode(options, quote_via=quote)).geturl()
            parameters = conninfo_to_dict(conninfo)
        except (ValueError, psycopg.Error):
            message = "PostgreSQL does not understand the log's URL; write postgresql://user@host:port/database?run=NAME."
            # Its own message may hold a part of the password.
            raise BadInput(message) from None
        if _RUN.fullmatch(run) is None or run == "information_schema":
            message = f"{run!r} cannot name a run; use up to 50 small letters, digits, '_', '-' and '.'"
            raise BadInput(f"{message}, and do not begin with pg_.")
        name = f"{parameters.get('host', 'localhost')}/{parameters.get('dbname', '')}, run {run}"
        return cls(conninfo, run, name)

    def runs(self) -> list[PostgresLocation]:
        """Locations of all runs in the same database, by name.

        Raises:
            LogError: the server cannot be reached.
        """
        query = """
            SELECT nspname FROM pg_namespace WHERE EXISTS (SELECT 1 FROM pg_class
            WHERE relnamespace = pg_namespace.oid AND relname = 'mark') ORDER BY nspname"""
        with self.connect() as db, translate_errors(self.name):
            runs = [str(name) for (name,) in db.execute(query)]
        database = self.name.removesuffix(f", run {self.run}")
        return [replace(self, run=run, name=f"{database}, run {run}") for run in runs]

    def connect(self) -> psycopg.Connection:
        """A connection that commits each statement durably, unless a transaction is open, and sees only this run.

        Raises:
            LogError: the server cannot be reached.
        """
        with translate_errors(self.name):
            db = psycopg.connect(self.conninfo, autocommit=True, client_encoding="utf8", application_name="gasp log")
            db.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            db.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self.run)))
            if self.read_only:
                db.execute("SET default_transaction_read_only TO on")
            db.execute(
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            )
        return db

    @property
    def channel(self) -> str:
        """Channel of LISTEN and NOTIFY for appends."""
        return f"gasp_{self.run}"


def recordable(url: str, run: str) -> str:
    """See `events.stores.recordable_url`."""
    location = PostgresLocation.parse(url)
    if any(map(is_secret, conninfo_to_dict(location.conninfo))):
        message = f"The URL of the log {location.name} holds a password, which would be written into the run's folder"
        raise BadInput(f"{message}; leave it out, and set PGPASSWORD or use ~/.pgpass.")
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    recorded = parts._replace(query=urlencode({**options, "run": options.get("run", run)}, quote_via=quote)).geturl()
    PostgresLocation.parse(recorded)
    return recorded


def check_schema(db: psycopg.Connection, location: PostgresLocation) -> int:
    """The schema number of the log there, which this version can read.

    Raises:
        BadInput: it holds none, or a newer one.
    """
    if db.execute("SELECT to_regclass('mark'), to_regclass('tip')").fetchone() == (None, None):
        raise BadInput(f"There is no log at {location.name}; check the URL, its `run` names the run.")
    mark = db.execute("SELECT application, schema_version FROM mark").fetchone()
    if mark is None or mark[0] != "GASP":
        raise BadInput(f"{location.name} is not a GASP log; check the URL, its `run` names the run.")
    if not FIRST_SCHEMA <= mark[1] <= SCHEMA_VERSION:
        readable = f"schemas {FIRST_SCHEMA} to {SCHEMA_VERSION}"
        message = f"The log {location.name} has schema {mark[1]}, this version reads {readable}"
        raise BadInput(f"{message}; use the version that wrote it.")
    return int(mark[1])


def create(location: PostgresLocation) -> None:
    """Make an empty log, unless there is one already.

    Raises:
        BadInput: the schema holds something else.
        LogError: it cannot be made.
    """
    with location.connect() as db, translate_errors(location.name), db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (CREATE_LOCK,))
        if db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (location.run,)).fetchone() is None:
            db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(location.run)))
        query = "SELECT count(*) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid WHERE nspname = %s"
        if db.execute(query, (location.run,)).fetchone() == (0,):
            from events.stores.schema import postgres_ddl

            for statement in postgres_ddl(SCHEMA_VERSION):
                db.execute(sql.SQL(statement))
        check_schema(db, location)
