"""Old facts stay readable: upcasting on read, before validation, without touching what is stored."""

import sqlite3
from pathlib import Path

import pytest

from events.facts.errors import LogError
from events.facts.hashing import ZERO_HASH, hash_event, next_head
from events.facts.types import EpisodeFailed
from events.facts.upcast import FACT_TYPES, upcast
from events.stores import open_log
from events.stores.rows import Row, open_row
from events.stores.sqlite import SqliteLog

UPCASTERS = {
    ("episode_failed", -1): lambda data: {**data, "message": data["text"]},
    ("episode_failed", 0): lambda data: {key: value for key, value in data.items() if key != "text"},
}
OLD = {"kind": "episode_failed", "error": "E", "text": "words"}


def test_upcasters_run_one_schema_at_a_time() -> None:
    new = upcast("episode_failed", -1, OLD, 1, UPCASTERS)
    assert new == {"kind": "episode_failed", "error": "E", "message": "words"}
    assert "text" in OLD


def test_data_of_today_passes_unchanged() -> None:
    assert upcast("episode_failed", 1, OLD, 1) is OLD


@pytest.mark.parametrize("schema", [-2, 2])
def test_a_missing_way_is_an_error(schema: int) -> None:
    with pytest.raises(
        LogError, match=rf"There is no way to read episode_failed of schema {schema}, this version knows 1; use"
    ):
        upcast("episode_failed", schema, OLD, 1, UPCASTERS)


def test_an_old_row_is_read_as_a_fact_of_today_and_still_verifies(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = open_log(path, create=True)
    log.append("run", [EpisodeFailed(error="E", message="words")])
    log.close()
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("DROP TRIGGER events_no_update; DROP TRIGGER tip_only_grows")
    data = '{"error":"E","kind":"episode_failed","text":"words"}'
    own = hash_event(ZERO_HASH, stream="run", version=1, kind="episode_failed", schema=-1, data=data, causation=None)
    head = next_head(ZERO_HASH, own)
    db.execute("UPDATE events SET data = ?, schema_version = -1, hash = ?, head = ?", (data, own, head))
    db.execute("UPDATE tip SET head = ?", (head,))
    db.close()
    old = SqliteLog(path, upcasters=UPCASTERS)
    assert next(old.read()).fact == EpisodeFailed(error="E", message="words")
    assert next(old.read()).hash == own
    assert old.verify() is None
    with pytest.raises(LogError, match="There is no way to read"):
        list(open_log(path).read())


def test_every_kind_is_known_by_its_name() -> None:
    assert FACT_TYPES["episode_failed"] is EpisodeFailed
    assert all(cls.model_fields["kind"].default == kind for kind, cls in FACT_TYPES.items())


def test_rows_open_without_a_store() -> None:
    row = Row(1, "run", 1, "run_finished", 1, '{"iterations":3,"kind":"run_finished"}', None, "", "", "", "2020-01-01", "{}")
    assert open_row(row).fact.iterations == 3
