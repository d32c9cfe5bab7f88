"""The tables of a stored log, and what a database itself enforces: append-only, one place per event.

Law: a changed table gets a new `SCHEMA_VERSION`. The triggers stop every UPDATE, DELETE and REPLACE that goes through
SQL; they do not stop someone who drops them, which is what the hash chain is for. It does not run anything.
"""

from __future__ import annotations

from sqlalchemy import Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import registry
from sqlalchemy.schema import CreateTable
from sqlmodel import Field, SQLModel, UniqueConstraint

from events.hashing import ZERO


class Table(SQLModel, registry=registry()):
    """Base of our tables, with metadata of their own."""


class EventRow(Table, table=True):
    """`events.stores.rows.Row` as a table."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("stream", "version"), {"sqlite_strict": True})

    position: int = Field(primary_key=True)
    stream: str = Field(sa_type=Text)
    version: int
    kind: str = Field(sa_type=Text)
    schema_version: int
    data: str = Field(sa_type=Text)
    causation: int | None = None
    prev_hash: str = Field(sa_type=Text)
    hash: str = Field(sa_type=Text)
    head: str = Field(sa_type=Text)
    time: str = Field(sa_type=Text)
    observed: str = Field(sa_type=Text)


class BlobRow(Table, table=True):
    """Content-addressed bytes, zlib-compressed."""

    __tablename__ = "blobs"
    __table_args__ = ({"sqlite_strict": True},)

    hash: str = Field(primary_key=True, sa_type=Text)
    size: int
    """Bytes before compression."""
    content: bytes


class TipRow(Table, table=True):
    """One row: where the log ends. It is written with every append, so that a cut-off tail shows."""

    __tablename__ = "tip"
    __table_args__ = ({"sqlite_strict": True},)

    id: int = Field(primary_key=True)
    position: int
    head: str = Field(sa_type=Text)


_FORBIDDEN = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: no {verb} on {table}');
END"""

_GUARDS = (
    """
CREATE TRIGGER events_no_replace BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position OR (stream = NEW.stream AND version = NEW.version)) BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: the place is taken');
END""",
    """
CREATE TRIGGER blobs_no_replace BEFORE INSERT ON blobs
WHEN EXISTS (SELECT 1 FROM blobs WHERE hash = NEW.hash) BEGIN
  SELECT RAISE(IGNORE);
END""",
    """
CREATE TRIGGER tip_only_grows BEFORE UPDATE ON tip
WHEN NEW.id <> OLD.id OR NEW.position <= OLD.position BEGIN
  SELECT RAISE(ABORT, 'the log is append-only: the tip only grows');
END""",
)


def sqlite_ddl() -> list[str]:
    """The statements that make an empty log in SQLite."""
    tables = Table.metadata.sorted_tables
    statements = [str(CreateTable(table).compile(dialect=sqlite.dialect())) for table in tables]
    statements += [_FORBIDDEN.format(table=table, verb=verb) for table in ("events", "blobs") for verb in ("update", "delete")]
    statements += [_FORBIDDEN.format(table="tip", verb="delete"), *_GUARDS]
    return [*statements, f"INSERT INTO tip VALUES (1, 0, '{ZERO}')"]  # noqa: S608  # a constant
