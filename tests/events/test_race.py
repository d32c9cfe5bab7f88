"""Order of positions = order of commits: a reader that asks for what comes after its position misses nothing."""

import time
from pathlib import Path

import pytest

from events.stores import open_log
from tests.support.processes import start_module

WRITERS = "abcd"
APPENDS = 60


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = str(tmp_path / "log.sqlite")
    if request.param == "postgres":
        where = f"{request.getfixturevalue('postgres')}?run=race"
    open_log(where, create=True).close()
    return where


def test_a_tailing_reader_misses_no_event_of_racing_writers(where: str) -> None:
    log = open_log(where)
    writers = [start_module("tests.support.racing_writer", where, name, APPENDS) for name in WRITERS]
    seen, wakes, running = [], 0, True
    while running:
        # Asked first: what was appended before the end is then certainly read below.
        running = any(writer.poll() is None for writer in writers)
        fresh = list(log.read(after=seen[-1].position if seen else 0))
        seen, wakes = seen + fresh, wakes + bool(fresh)
        time.sleep(0.001)
    assert [writer.returncode for writer in writers] == [0] * len(WRITERS)
    assert wakes > 20, "the reader was too slow to race"
    assert seen == list(log.read())
    assert [event.position for event in seen] == list(range(1, len(seen) + 1))
    assert {event.fact.error for event in seen} == set(WRITERS)
    assert log.verify() is None
