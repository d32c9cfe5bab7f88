"""Tables and triggers of a stored log, as SQL statements.

Schemas: 1 has events, blobs and tip; 2 adds keys; 3 adds a tally in the tip, and an index by kind. A changed table gets a new
`SCHEMA_VERSION` and a migration that keeps every row.

The triggers refuse every UPDATE, DELETE and REPLACE by SQL. They do not stop someone who drops them; the hash chain shows that.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Dialect, Integer, Text
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import registry
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from events.facts.hashing import ZERO_HASH
from events.stores.tally import Tally

_INT64 = BigInteger().with_variant(Integer(), "sqlite")
"""Integers of 64 bits, which SQLite calls INTEGER."""
_NOT_COUNTED = {"autoincrement": False}
"""Column options of a key that the log itself counts."""


class Table(SQLModel, registry=registry()):
    """Base of the tables, with metadata of their own."""


class EventTable(Table, table=True):
    """`events.stores.rows.Row` as a table."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("stream", "version"), Index("events_kind", "kind", "position"), {"sqlite_strict": True})

    position: int = Field(primary_key=True, sa_type=_INT64, sa_column_kwargs=_NOT_COUNTED)
    stream: str = Field(sa_type=Text)
    version: int = Field(sa_type=_INT64)
    kind: str = Field(sa_type=Text)
    schema_version: int
    data: str = Field(sa_type=Text)
    causation: int | None = Field(default=None, sa_type=_INT64)
    prev_hash: str = Field(sa_type=Text)
    hash: str = Field(sa_type=Text)
    head: str = Field(sa_type=Text)
    time: str = Field(sa_type=Text)
    observed: str = Field(sa_type=Text)


class BlobTable(Table, table=True):
    """Content-addressed bytes, zlib-compressed."""

    __tablename__ = "blobs"
    __table_args__ = ({"sqlite_strict": True},)

    hash: str = Field(primary_key=True, sa_type=Text)
    size: int = Field(sa_type=_INT64)
    """Bytes before compression."""
    content: bytes


class KeyTable(Table, table=True):
    """`events.stores.transaction.Key` as a table; apart from events, so that only appends with a key pay for it."""

    __tablename__ = "keys"
    __table_args__ = ({"sqlite_strict": True},)

    stream: str = Field(primary_key=True, sa_type=Text)
    key: str = Field(primary_key=True, sa_type=Text)
    version: int = Field(sa_type=_INT64)
    size: int = Field(sa_type=_INT64)


class TipTable(Table, table=True):
    """One row: the end of the log and its counts, written with every append, so that a cut-off tail shows."""

    __tablename__ = "tip"
    __table_args__ = ({"sqlite_strict": True},)

    id: int = Field(primary_key=True, sa_column_kwargs=_NOT_COUNTED)
    position: int = Field(sa_type=_INT64)
    head: str = Field(sa_type=Text)
    tally: str = Field(sa_type=Text)
    """`events.stores.tally.Tally` as JSON."""


def _table(row: type[Table]) -> SqlTable:
    return Table.metadata.tables[str(row.__tablename__)]


_FIRST_TIP = f"INSERT INTO tip VALUES (1, 0, '{ZERO_HASH}', '{Tally().text()}')"  # noqa: S608  # constants

_FORBIDDEN = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: no {verb} on {table}');
END"""

_EVENTS_NO_REPLACE = """
CREATE TRIGGER events_no_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position OR (stream = NEW.stream AND version = NEW.version)) BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: the place is taken');
END"""

_BLOBS_NO_REPLACE = """
CREATE TRIGGER blobs_no_replace BEFORE INSERT ON blobs
WHEN EXISTS (SELECT 1 FROM blobs WHERE hash = NEW.hash) BEGIN
  SELECT RAISE(IGNORE);
END"""

_KEYS_NO_REPLACE = """
CREATE TRIGGER keys_no_replace BEFORE INSERT ON keys
WHEN EXISTS (SELECT 1 FROM keys WHERE stream = NEW.stream AND key = NEW.key) BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: the key is taken');
END"""

_TIP_ONLY_GROWS = """
CREATE TRIGGER tip_only_grows BEFORE UPDATE ON tip
WHEN NEW.id <> OLD.id OR NEW.position <= OLD.position BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: the tip only grows');
END"""


def sqlite_ddl() -> list[str]:
    """The statements that make an empty log in SQLite."""
    return [
        *_sqlite_table(EventTable, _EVENTS_NO_REPLACE),
        *_sqlite_table(BlobTable, _BLOBS_NO_REPLACE),
        *_sqlite_table(KeyTable, _KEYS_NO_REPLACE),
        _created(TipTable),
        _FORBIDDEN.format(table="tip", verb="delete"),
        _TIP_ONLY_GROWS,
        _FIRST_TIP,
    ]


def sqlite_triggers(*, keyed: bool = True) -> dict[str, str]:
    """Text of the triggers of a log in SQLite by name, without those of keys if it has none."""
    statements = [statement.strip() for statement in sqlite_ddl()]
    named = {statement.split()[2]: statement for statement in statements if statement.startswith("CREATE TRIGGER ")}
    return {name: statement for name, statement in named.items() if keyed or not name.startswith("keys_")}


def sqlite_keys() -> list[str]:
    """The statements that bring a log of schema 1 to schema 2."""
    return _sqlite_table(KeyTable, _KEYS_NO_REPLACE)


def _sqlite_table(row: type[Table], guard: str) -> list[str]:
    forbidden = [_FORBIDDEN.format(table=row.__tablename__, verb=verb) for verb in ("update", "delete")]
    return [_created(row), *_indexes(row, sqlite.dialect()), *forbidden, guard]


def _created(row: type[Table]) -> str:
    return str(CreateTable(_table(row)).compile(dialect=sqlite.dialect()))


def _indexes(row: type[Table], dialect: Dialect) -> list[str]:
    return [str(CreateIndex(index).compile(dialect=dialect)) for index in _table(row).indexes]


_PG_REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the log is append-only: no % on %', lower(TG_OP), TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$"""

_PG_APPEND_ONLY = """
CREATE TRIGGER {table}_append_only BEFORE {verbs} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()"""

_PG_TIP_GROWS = (
    """
CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id <> OLD.id OR NEW.position <= OLD.position THEN
    RAISE EXCEPTION 'the log is append-only: the tip only grows' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$""",
    "CREATE TRIGGER tip_only_grows BEFORE UPDATE ON tip FOR EACH ROW EXECUTE FUNCTION grow()",
)


POSTGRES_TRIGGERS = ("events_append_only", "blobs_append_only", "keys_append_only", "tip_append_only", "tip_only_grows")
"""Names of the triggers of a log in PostgreSQL."""


def postgres_ddl(schema_version: int) -> list[str]:
    """The statements that make an empty log in the current schema of a PostgreSQL database."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # as SQLAlchemy has it
    statements = [str(CreateTable(table).compile(dialect=dialect)) for table in Table.metadata.sorted_tables]
    guards = [_PG_APPEND_ONLY.format(table=name, verbs="UPDATE OR DELETE OR TRUNCATE") for name in ("events", "blobs", "keys")]
    return [
        *statements,
        *_indexes(EventTable, dialect),
        _FIRST_TIP,
        "CREATE TABLE mark (application text NOT NULL, schema_version integer NOT NULL)",
        f"INSERT INTO mark VALUES ('GASP', {schema_version})",  # noqa: S608  # a constant
        _PG_REFUSE,
        *guards,
        _PG_APPEND_ONLY.format(table="tip", verbs="INSERT OR DELETE OR TRUNCATE"),
        *_PG_TIP_GROWS,
    ]
