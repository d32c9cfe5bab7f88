"""Stores of the log, and how to open one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, overload

from events.facts.errors import BadInput
from events.stores.raw import Store
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create as create_file
from events.text.secrets import mask

if TYPE_CHECKING:
    from events.stores.postgres import PostgresLog

__all__ = ["is_url", "open_log", "recordable_url", "run_of_url", "runs_in_database"]

_SCHEMES = ("postgresql://", "postgres://")


@overload
def open_log(where: Path, *, create: bool = False, read_only: bool = False) -> SqliteLog: ...
@overload
def open_log(where: Path | str, *, create: bool = False, read_only: bool = False) -> Store: ...
def open_log(where: Path | str, *, create: bool = False, read_only: bool = False) -> Store:
    """The log in a file or in a PostgreSQL database.

    Args:
        where: a file, usually `log.sqlite` in the directory of a run, or `postgresql://user@host/database?run=NAME`.
        create: make an empty log if there is none.
        read_only: let the database refuse every write.

    Raises:
        BadInput: there is no log, something else, or a log of another schema.
        LogError: it cannot be opened, made or read.
    """
    if is_url(where):
        return _open_postgres(str(where), create=create, read_only=read_only)
    path = Path(where)
    if create:
        create_file(path)
    return SqliteLog(path, read_only=read_only)


def is_url(where: Path | str) -> bool:
    """Whether it is the URL of a database, and not a file."""
    return isinstance(where, str) and where.startswith(_SCHEMES)


def _open_postgres(url: str, *, create: bool, read_only: bool) -> PostgresLog:
    with _needs_driver():
        from events.stores import postgres, postgres_location
    location = postgres_location.PostgresLocation.parse(url)
    if create:
        postgres_location.create(location)
    return postgres.PostgresLog(replace(location, read_only=read_only))


def runs_in_database(url: str) -> dict[str, Callable[[], Store]]:
    """Functions that open the log of each run in a PostgreSQL database, by the run's name.

    Raises:
        BadInput: the URL names no database.
        LogError: the server cannot be reached.
    """
    with _needs_driver():
        from events.stores import postgres, postgres_location
    locations = postgres_location.PostgresLocation.parse(url).runs()
    return {location.run: partial(postgres.PostgresLog, location) for location in locations}


def run_of_url(url: str) -> str:
    """The name of the run in a URL.

    Raises:
        BadInput: it names none.
    """
    with _needs_driver():
        from events.stores.postgres_location import PostgresLocation
    return PostgresLocation.parse(url).run


def recordable_url(url: str, run: str) -> str:
    """The URL as it may be recorded: with a run's name, `run` unless it has one, and without a password.

    Raises:
        BadInput: it holds one, or names no log in a database.
    """
    if not is_url(url):
        raise BadInput(f"A log in a database is named postgresql://user@host/database?run=NAME, not {mask(url)}.")
    with _needs_driver():
        from events.stores.postgres_location import recordable
    return recordable(url, run)


@contextmanager
def _needs_driver() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        message = "A log in PostgreSQL needs psycopg, which is not installed; run `pip install 'gasp[postgres]'`."
        raise BadInput(message) from error
