"""Reads an index.

Guarantees: every query reads a bounded number of rows by an SQL index. Threads that share a reader take turns, and see what
is written as soon as it is committed.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from events.facts.errors import BadInput, LogError
from events.facts.log import ReadableLog
from events.facts.values import QuestionId
from events.index.query import AFTER_ALL_TEXTS, KINDS, Kind, parse_query, select_rows
from events.index.rows import (
    SIGN_KINDS,
    AppearanceEntry,
    AttemptsEntry,
    EpisodeEntry,
    GapEntry,
    GoalpostEntry,
    GoalpostMeasure,
    SearchHit,
    SignEntry,
)
from events.index.schema import connect
from events.index.texts import TextCache, excerpt, searchable_text, storable_text

ORDERS = tuple("question title source episodes lemmas lifts first_gap last_gap best_gap best_share solved_after".split())
"""Columns that goalposts can be ordered by."""
MAX_FOUND = 20
"""Most questions that `find` returns."""

_STRETCH_POSITIONS = 20_000
"""Positions that a search reads between two looks at the clock."""
_POSITION_END = 2**63 - 1
_GAP = "position, stream, iteration, policy, successes, attempts, best_share"
_EPISODE = "stream, position, iteration, purpose, question, axis, ending"
_SIGN = "position, rule, evidence, iteration, question, other, stream, version, attempt"


class SearchResults(NamedTuple):
    """Results of a search until it ended."""

    hits: list[SearchHit]
    """The latest first."""
    before: int
    """Everything from this position on was searched; pass it on to continue, unless it is 1."""


class Index:
    """Queries on a log's index."""

    def __init__(self, log: ReadableLog, path: Path) -> None:
        """Open an existing index; `events.index.writer` makes one."""
        self._path = path
        self._db = connect(path, reading=True)
        self._db.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        self._log = log
        self._texts = TextCache(log)

    def _ask(self, query: str, *values: Any) -> list[sqlite3.Row]:
        storable = [storable_text(value) if isinstance(value, str) else value for value in values]
        try:
            with self._lock:
                return self._db.execute(query, storable).fetchall()
        except sqlite3.Error as error:
            raise LogError(f"The index {self._path} cannot be read ({error}); delete it to have it made anew.") from error

    def _latest(
        self, table: str, columns: str, before: int | None, limit: int, order: str = "position DESC", **values: str | None
    ) -> list[sqlite3.Row]:
        """Rows before a position, the latest first, whose columns have the given values; None allows any."""
        equal = {name: value for name, value in values.items() if value is not None}
        bounds = " AND ".join(["position < ?", *(f"{name} = ?" for name in equal)])
        query = f"SELECT {columns} FROM {table} WHERE {bounds} ORDER BY {order} LIMIT ?"  # noqa: S608  # constants only
        return self._ask(query, _before_or_end(before), *equal.values(), limit)

    @property
    def position(self) -> int:
        """Last position indexed."""
        return self._checkpoint("index")

    @property
    def signs_position(self) -> int:
        """Position of the last question or answer in which signs of reward hacking were searched."""
        return self._checkpoint("signs")

    @property
    def has_all_signs(self) -> bool:
        """Whether signs were searched in all that is indexed."""
        following = next(self._log.read(after=self.signs_position, kinds=SIGN_KINDS, limit=1), None)
        return following is None or following.position > self.position

    def _checkpoint(self, consumer: str) -> int:
        rows = self._ask("SELECT position FROM checkpoint WHERE consumer = ?", consumer)
        return rows[0][0] if rows else 0

    def goalposts(
        self, *, where: str = "", order: str = "last_gap", descending: bool = False, limit: int = 200, offset: int = 0
    ) -> tuple[list[GoalpostEntry], int]:
        """A page of goalposts, and how many match in all.

        Args:
            where: words, each of which must be in the title, begin the id, or be the source.
            order: one of `ORDERS`; goalposts without a value come last, and of equal ones those first whose tests passed best.
            descending: whether the largest comes first.
            limit: most goalposts.
            offset: goalposts to skip.

        Raises:
            BadInput: `order` is unknown.
        """
        if order not in ORDERS:
            raise BadInput(f"Goalposts cannot be ordered by {order!r}; order them by one of {', '.join(ORDERS)}.")
        words = storable_text(where).lower().split()
        matching = "(instr(lower(title), ?) OR instr(question, ?) = 1 OR lower(source) = ?)"
        condition = " AND ".join([matching] * len(words)) or "1"
        values = [word for word in words for _ in range(3)]
        count = self._ask(f"SELECT count(*) FROM goalposts WHERE {condition}", *values)[0][0]  # noqa: S608  # constants only
        by = f"{order} IS NULL, {order} {'DESC' if descending else 'ASC'}, best_share DESC, rowid"
        query = f"SELECT * FROM goalposts WHERE {condition} ORDER BY {by} LIMIT ? OFFSET ?"  # noqa: S608  # constants only
        return [_goalpost(row) for row in self._ask(query, *values, limit, offset)], count

    def goalpost(self, question: QuestionId) -> GoalpostEntry | None:
        """A goalpost by its id."""
        return next(map(_goalpost, self._ask("SELECT * FROM goalposts WHERE question = ?", question)), None)

    def gaps(self, goalpost: QuestionId) -> list[GapEntry]:
        """Every measured gap of a goalpost, in order."""
        query = f"SELECT {_GAP} FROM gaps WHERE goalpost = ? ORDER BY position"  # noqa: S608  # constants only
        return [GapEntry(*row) for row in self._ask(query, goalpost)]

    def episodes(self, goalpost: QuestionId, *, before: int | None = None, limit: int = 20) -> list[EpisodeEntry]:
        """The guided episodes of a goalpost, before a position if given, the latest first."""
        rows = self._latest("episodes", _EPISODE, before, limit, question=goalpost, purpose="guided")
        return [EpisodeEntry(*row) for row in rows]

    def appearances(self, question: QuestionId, *, limit: int = 50) -> list[AppearanceEntry]:
        """Where a question appeared, in order."""
        query = "SELECT * FROM appearances WHERE question = ? ORDER BY position LIMIT ?"
        return [_appearance(row) for row in self._ask(query, question, limit)]

    def appearance(self, stream: str, version: int) -> AppearanceEntry | None:
        """The appearance of an event."""
        query = "SELECT * FROM appearances WHERE stream = ? AND version = ?"
        return next(map(_appearance, self._ask(query, stream, version)), None)

    def proposals(self, stream: str) -> list[AppearanceEntry]:
        """The teacher's proposals in an episode, in order."""
        query = "SELECT * FROM appearances WHERE stream = ? AND seat IS NOT NULL ORDER BY version"
        return [_appearance(row) for row in self._ask(query, stream)]

    def answers(
        self, *, question: QuestionId | None = None, stream: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[AttemptsEntry]:
        """Attempts before a position if given, the latest first; at one question or of one stream if asked."""
        return [_answers(row) for row in self._latest("answers", "*", before, limit, question=question, stream=stream)]

    def answers_at(self, stream: str, version: int) -> AttemptsEntry | None:
        """The attempts of an event."""
        query = "SELECT * FROM answers WHERE stream = ? AND version = ?"
        return next(map(_answers, self._ask(query, stream, version)), None)

    def find(self, prefix: str) -> list[AppearanceEntry]:
        """Questions whose id has a prefix, each where it first appeared."""
        prefix = storable_text(prefix)
        first = "SELECT min(position) FROM appearances WHERE question >= ? AND question < ? GROUP BY question LIMIT ?"
        query = f"SELECT * FROM appearances WHERE position IN ({first}) ORDER BY question"  # noqa: S608  # constants only
        return [_appearance(row) for row in self._ask(query, prefix, prefix + AFTER_ALL_TEXTS, MAX_FOUND)]

    def search(self, query: str, *, limit: int = 50, before: int | None = None) -> list[SearchHit]:
        """Results of a query before a position if given, the latest first.

        Raises:
            BadInput: the query cannot be read; see `events.index.query` for its language.
        """
        return self.search_for(inf, query, limit=limit, before=before).hits

    def search_for(self, seconds: float, query: str, *, limit: int = 50, before: int | None = None) -> SearchResults:
        """The same, but it ends after about so many seconds, and returns how far it came.

        Raises:
            BadInput: the query cannot be read.
        """
        terms, until = parse_query(query), monotonic() + seconds
        wanted = [term.value for term in terms if term.field is None and not term.negated]
        rows: dict[tuple[int, Kind], sqlite3.Row] = {}
        # Between two stretches other threads have their turn.
        stretch = _STRETCH_POSITIONS if seconds < inf else _POSITION_END
        end = min(_before_or_end(before), self.position + 1)
        while end > 1 and len(rows) < limit:
            start = max(end - 1 - stretch, 0)
            for kind in KINDS:
                statement = select_rows(terms, kind, after=start, before=end, limit=limit)
                for row in self._ask(statement.sql, *statement.values) if statement else ():
                    rows[row["position"], kind] = row
            end = start + 1
            if monotonic() > until:
                break
        latest = sorted(rows.items(), key=lambda item: item[0], reverse=True)[:limit]
        hits = [self._hit(kind, row, wanted) for (_, kind), row in latest]
        return SearchResults(hits, hits[-1].position if len(hits) == limit else end)

    def _hit(self, kind: Kind, row: sqlite3.Row, wanted: Sequence[str]) -> SearchHit:
        texts: list[str] = []
        if wanted and kind == "question" and row["blob"]:
            texts.append(searchable_text(self._texts.question(row["blob"])))
        if wanted and row["texts"]:
            texts += self._texts.completions(row["texts"])
        appearance, answers = (_appearance(row), None) if kind == "question" else (None, _answers(row))
        return SearchHit(kind, row["position"], appearance, answers, excerpt(texts, wanted))

    def signs(
        self, *, rule: str | None = None, question: QuestionId | None = None, before: int | None = None, limit: int = 100
    ) -> list[SignEntry]:
        """Signs before a position if given, the latest first; of one rule or question if asked."""
        rows = self._latest("signs", _SIGN, before, limit, order="position DESC, number DESC", rule=rule, question=question)
        return [SignEntry(*row) for row in rows]

    def sign_counts(self) -> dict[str, int]:
        """Number of signs by rule."""
        return {row[0]: row[1] for row in self._ask("SELECT rule, count(*) FROM signs GROUP BY rule ORDER BY rule")}

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()


def _before_or_end(before: int | None) -> int:
    return _POSITION_END if before is None else before


def _goalpost(row: sqlite3.Row) -> GoalpostEntry:
    history = tuple(GoalpostMeasure(*measure) for measure in json.loads(row["history"]))
    counts = (row["episodes"], row["lemmas"], row["lifts"])
    figures = (row["first_gap"], row["last_gap"], row["best_gap"], row["best_share"], row["solved_after"])
    return GoalpostEntry(row["question"], row["blob"], row["title"], row["source"], *counts, history, *figures)


def _appearance(row: sqlite3.Row) -> AppearanceEntry:
    fields = {name: row[name] for name in AppearanceEntry.__dataclass_fields__}
    for claim in ("accepted", "aligned"):
        fields[claim] = None if row[claim] is None else bool(row[claim])
    return AppearanceEntry(**fields)


def _answers(row: sqlite3.Row) -> AttemptsEntry:
    fields = {name: row[name] for name in AttemptsEntry.__dataclass_fields__}
    return AttemptsEntry(**fields | {"outcomes": json.loads(row["outcomes"])})
