"""A process that consumes a log into the table `seen`, slowly; the crash test starts and kills it.

python -m tests.support.log_consumer FOLDER
"""

import sqlite3
import sys
import time
from pathlib import Path

from events.facts.consumers import Consumer
from events.facts.log import Event
from events.stores import open_log


def write(db: sqlite3.Connection, event: Event) -> None:
    db.execute("INSERT INTO seen VALUES (?, ?)", (event.position, event.fact.message))
    if event.position % 50 == 0:
        time.sleep(0.001)


def main() -> None:
    folder = Path(sys.argv[1])
    db = sqlite3.connect(folder / "figures.sqlite", isolation_level=None)
    consumer = Consumer(open_log(folder / "log.sqlite"), "killed", db, write)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    consumer.follow()


if __name__ == "__main__":
    main()
