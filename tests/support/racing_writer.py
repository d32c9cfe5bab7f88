"""A process that appends in transactions held open for a random while, some of them rolled back; the race tests start it.

python -m tests.support.racing_writer LOG NAME COUNT
"""

import random
import sys
import time
from pathlib import Path
from typing import Any

from events.facts.errors import LogError
from events.facts.types import EpisodeFailed
from events.stores import is_url
from events.stores.commit_queue import AppendOutcome
from events.stores.postgres import PostgresLog
from events.stores.postgres_location import PostgresLocation
from events.stores.sqlite import SqliteLog

ROLLED_BACK = 0.2
"""Share of transactions."""
HELD_S = 0.004
"""How long a transaction is held open at most."""


class JitteryPostgresLog(PostgresLog):
    """Says what it writes to the server, and then waits or gives up."""

    def _write(self, *args: Any, **options: Any) -> None:
        super()._write(*args, **options)
        self._writer.execute("SELECT 1").fetchone()
        sleep_randomly()

    def _append_to_known_end(self, *args: Any) -> list[AppendOutcome] | None:
        with self._writer.transaction():
            outcomes = super()._append_to_known_end(*args)
            sleep_randomly()
        return outcomes


class JitterySqliteLog(SqliteLog):
    def _write(self, *args: Any, **options: Any) -> None:
        super()._write(*args, **options)
        sleep_randomly()


class SimulatedFailure(LogError):
    """The transaction was rolled back on purpose."""


def sleep_randomly() -> None:
    """Hold the transaction that is open, or end it."""
    time.sleep(random.uniform(0, HELD_S))
    if random.random() < ROLLED_BACK:
        raise SimulatedFailure


def main() -> None:
    """Append batches of one to three facts until so many were appended, to a stream of its own and to a shared one."""
    where, name, count = sys.argv[1:]
    random.seed(name)
    log = JitteryPostgresLog(PostgresLocation.parse(where)) if is_url(where) else JitterySqliteLog(Path(where))
    done = gave_up = 0
    while done < int(count):
        facts = [EpisodeFailed(error=name, message=str(number)) for number in range(random.randint(1, 3))]
        try:
            log.append(random.choice(["shared", f"own/{name}"]), facts)
            done += 1
        except SimulatedFailure:
            gave_up += 1
    assert gave_up


if __name__ == "__main__":
    main()
