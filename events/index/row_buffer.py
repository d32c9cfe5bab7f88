"""The rows of an index that one transaction changes: a unit of work.

Several events change an episode, a proposal, an answer or a goalpost, mostly soon after one another. Its row is read at first
use, changed in memory, and written once, by `flush`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, Literal

from events.facts.values import QuestionId
from events.index.rows import AppearanceEntry, AttemptsEntry, EpisodeEntry, GapEntry, GoalpostEntry

Row = dict[str, Any]
"""Values by column; one that is changed is written at the next flush."""


class _Table:
    """A table whose rows are read and written whole."""

    def __init__(self, name: str, columns: Iterable[str], **defaults: str | int) -> None:
        self.columns = tuple(columns)
        self._new = dict.fromkeys(self.columns) | defaults
        self._values = itemgetter(*self.columns)
        names = ", ".join(self.columns)
        self._select = f"SELECT {names} FROM {name} WHERE"  # noqa: S608  # constants only
        self._insert = f"INSERT OR REPLACE INTO {name} ({names}) VALUES ({', '.join('?' * len(self.columns))})"  # noqa: S608

    def new(self, columns: Row) -> Row:
        """A row with defaults in all other columns."""
        return self._new | columns

    def read(self, db: sqlite3.Connection, condition: str, *values: str | int) -> list[Row]:
        """The rows that meet a condition."""
        return [dict(zip(self.columns, row, strict=True)) for row in db.execute(f"{self._select} {condition}", values)]

    def write(self, db: sqlite3.Connection, rows: Iterable[Row | None]) -> None:
        """Write rows, in place of those that have their keys."""
        db.executemany(self._insert, [self._values(row) for row in rows if row is not None])


_EPISODES: Final = _Table("episodes", (*EpisodeEntry.__dataclass_fields__, "level"))
_APPEARANCES: Final = _Table("appearances", (*AppearanceEntry.__dataclass_fields__, "texts"), title="", detail="", agreeing=0)
_ANSWERS: Final = _Table("answers", (*AttemptsEntry.__dataclass_fields__, "passed", "axis", "goalpost", "texts"), outcomes="{}")
_GOALPOSTS: Final = _Table("goalposts", ("rowid", *GoalpostEntry.__dataclass_fields__, "measures", "stride"))


class RowBuffer:
    """Rows of an index, for one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Read nothing yet."""
        self.db = db
        """For what is written at once; rows in the buffer are not seen there before `flush`."""
        self._clear()

    def _clear(self) -> None:
        self._episodes: dict[str, Row | None] = {}
        self._appearances: dict[str, list[Row]] = {}
        self._answers: dict[tuple[str, int], Row | None] = {}
        self._goalposts: dict[QuestionId, Row | None] = {}
        self._gaps: list[tuple[Any, ...]] = []
        self._outcomes: set[tuple[str, int]] = set()
        self._texts: dict[str, list[tuple[int, str]]] = {"asked": [], "answered": []}

    def add_episode(self, **columns: Any) -> None:
        """Add an episode, before any other row of its stream."""
        stream = columns["stream"]
        self._episodes[stream], self._appearances[stream] = _EPISODES.new(columns), []

    def episode(self, stream: str) -> Row | None:
        """The episode of a stream; None for other streams."""
        if stream not in self._episodes:
            self._episodes[stream] = next(iter(_EPISODES.read(self.db, "stream = ?", stream)), None)
        return self._episodes[stream]

    def add_appearance(self, **columns: Any) -> None:
        """Add an appearance, the last one of its stream."""
        self.appearances(columns["stream"]).append(_APPEARANCES.new(columns))

    def appearances(self, stream: str) -> list[Row]:
        """The appearances of a stream, in order of version."""
        if stream not in self._appearances:
            self._appearances[stream] = _APPEARANCES.read(self.db, "stream = ? ORDER BY version", stream)
        return self._appearances[stream]

    def add_answers(self, **columns: Any) -> None:
        """Add attempts."""
        self._answers[columns["stream"], columns["version"]] = _ANSWERS.new(columns)

    def answers(self, stream: str, version: int) -> Row | None:
        """The attempts of an event; None if it has none."""
        key = stream, version
        if key not in self._answers:
            self._answers[key] = next(iter(_ANSWERS.read(self.db, "stream = ? AND version = ?", stream, version)), None)
        return self._answers[key]

    def add_goalpost(self, **columns: Any) -> None:
        """Add the appearance of a goalpost, and the goalpost unless it is there; both are written at once."""
        query = "INSERT OR IGNORE INTO goalposts (question, blob, title, source) VALUES (:question, :blob, :title, :source)"
        self.db.execute(query, columns)
        _APPEARANCES.write(self.db, [_APPEARANCES.new(columns | {"origin": "goalpost"})])
        if self._goalposts.get(columns["question"]) is None:
            self._goalposts.pop(columns["question"], None)

    def goalpost(self, question: QuestionId) -> Row | None:
        """A goalpost; None where the question is none."""
        if question not in self._goalposts:
            self._goalposts[question] = next(iter(_GOALPOSTS.read(self.db, "question = ?", question)), None)
        return self._goalposts[question]

    def appeared(self, question: QuestionId, stream: str) -> list[int]:
        """Positions at which a question appeared in a stream, or as a goalpost."""
        positions = [row["position"] for row in self.appearances(stream) if row["question"] == question]
        if self.goalpost(question) is not None:
            query = "SELECT position FROM appearances WHERE question = ? AND origin = 'goalpost'"
            positions += [position for (position,) in self.db.execute(query, (question,))]
        return positions

    def has_appeared(self, question: QuestionId) -> bool:
        """Whether a question has appeared anywhere."""
        if any(row["question"] == question for rows in self._appearances.values() for row in rows):
            return True
        return self.db.execute("SELECT 1 FROM appearances WHERE question = ? LIMIT 1", (question,)).fetchone() is not None

    def add_gap(self, goalpost: QuestionId, gap: GapEntry) -> None:
        """Add a measured gap."""
        at = gap.position, gap.stream, gap.iteration, gap.policy
        self._gaps.append((goalpost, *at, gap.successes, gap.attempts, gap.best_share))

    def add_outcome(self, outcome: str, position: int) -> None:
        """Add an outcome of an answer, or of the question that it answers, unless it is there."""
        self._outcomes.add((outcome, position))

    def add_text(self, table: Literal["asked", "answered"], row: int, text: str) -> None:
        """Add a text that is searched."""
        self._texts[table].append((row, text))

    def flush(self) -> None:
        """Write all rows, and forget them."""
        _EPISODES.write(self.db, self._episodes.values())
        _APPEARANCES.write(self.db, [row for rows in self._appearances.values() for row in rows])
        _ANSWERS.write(self.db, self._answers.values())
        _GOALPOSTS.write(self.db, self._goalposts.values())
        self.db.executemany("INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._gaps)
        self.db.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?)", sorted(self._outcomes))
        for table, texts in self._texts.items():
            # FTS5 keeps what it has in memory only while row ids ascend.
            self.db.executemany(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", sorted(texts))  # noqa: S608  # constants only
        self._clear()
