"""Writes the rows of each fact to an index.

Guarantees: every row follows from the log alone; no state is kept but caches, so that it resumes after any stop.
Not responsible for: transactions (`events.index.writer`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from statistics import fmean
from typing import Any

from events.facts.certainty_facts import TextGiven
from events.facts.drawn_facts import DocumentDrawn
from events.facts.label_facts import LabelVoted
from events.facts.log import Event
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    GapMeasured,
    GoalpostAdded,
    IterationStarted,
    PassRateMeasured,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    RewardGiven,
)
from events.facts.values import BlobHash, QuestionId, Seat, id_of_blob
from events.index.rows import Origin
from events.index.texts import TextCache, cached, searchable_text, storable_text
from events.text.phrases import text_sentence, vote_sentence
from events.text.safe_text import one_line

TITLE_LENGTH = 120
"""Characters of a statement that a list shows."""
HISTORY_SHOWN = 60
"""Most measures of a goalpost that a list shows."""

ORIGINS: dict[Seat, Origin] = {"easy": "lemma", "hard": "lift", "open": "open"}
_LAST = "(SELECT max(version) FROM appearances WHERE stream = ?)"
_LAST_OF = "(SELECT max(version) FROM appearances WHERE stream = ? AND question = ?)"
_ANSWERED = """
SELECT position FROM appearances WHERE stream = ? AND +question = ? UNION
SELECT position FROM appearances
WHERE question = (SELECT question FROM goalposts WHERE question = ?) AND origin = 'goalpost'"""


class FactIndexer:
    """Writes the rows of facts to an index."""

    def __init__(self, texts: TextCache) -> None:
        self._texts = texts
        self._episodes: dict[str, tuple[int | None, str | None, str | None]] = {}

    def write(self, db: sqlite3.Connection, event: Event) -> None:
        """Write the rows of an event."""
        match event.fact:
            case AttemptsMade():
                self._attempts_made(db, event, event.fact)
            case AttemptsVerified():
                _attempts_verified(db, event, event.fact)
            case RewardGiven():
                _reward_given(db, event, event.fact)
            case QuestionProposed():
                self._question_proposed(db, event, event.fact)
            case (
                QuestionRejected() | QuestionValidated() | LabelVoted() | PassRateMeasured() | QuestionAccepted() | TextGiven()
            ):
                self._appearance_changed(db, event)
            case EpisodeStarted() | DocumentDrawn():
                self._episode_opened(db, event)
            case EpisodeFinished(reason=reason):
                db.execute("UPDATE episodes SET ending = ? WHERE stream = ?", (reason, event.stream))
            case EpisodeFailed():
                db.execute("UPDATE episodes SET ending = 'failed' WHERE stream = ?", (event.stream,))
            case GapMeasured() as fact:
                iteration, _, _ = self._episode(db, event.stream)
                student = db.execute("SELECT student FROM iterations WHERE iteration = ?", (iteration,)).fetchone()
                key = (event.position, event.stream, iteration or 0, *(student or (None,)))
                _write_gap(db, fact.question, (*key, fact.successes, fact.attempts, fact.best_share))
            case EvaluationFinished():
                _evaluation_finished(db, event, event.fact)
            case IterationStarted(iteration=iteration, policies=policies):
                db.execute("INSERT OR REPLACE INTO iterations VALUES (?, ?)", (iteration, policies["student"]))
            case GoalpostAdded():
                self._goalpost_added(db, event, event.fact)

    def _goalpost_added(self, db: sqlite3.Connection, event: Event, fact: GoalpostAdded) -> None:
        question = self._texts.question(fact.blob)
        title, source = one_line(question.statement, TITLE_LENGTH), storable_text(fact.source)
        query = "INSERT OR IGNORE INTO goalposts (question, blob, title, source) VALUES (?, ?, ?, ?)"
        db.execute(query, (fact.question, fact.blob, title, source))
        _write_appearance(db, event, origin="goalpost", question=fact.question, blob=fact.blob, title=title, source=source)
        _write_text(db, "asked", 2 * event.position, searchable_text(question))

    def _episode_opened(self, db: sqlite3.Connection, event: Event) -> None:
        if isinstance(event.fact, EpisodeStarted):
            self._episode_started(db, event, event.fact)
        elif isinstance(event.fact, DocumentDrawn):
            self._document_drawn(db, event, event.fact)

    def _episode_started(self, db: sqlite3.Connection, event: Event, fact: EpisodeStarted) -> None:
        row = (event.stream, event.position, fact.iteration, fact.purpose, fact.question, fact.axis)
        db.execute("INSERT INTO episodes VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)", row)
        if fact.purpose == "guided":
            db.execute("UPDATE goalposts SET episodes = episodes + 1 WHERE question = ?", (fact.question,))
        if fact.purpose == "practice":
            question = self._texts.question(fact.blob)
            title = one_line(question.statement, TITLE_LENGTH)
            columns = {"question": fact.question, "blob": fact.blob, "title": title}
            _write_appearance(db, event, origin="practice", iteration=fact.iteration, **columns)
            _write_text(db, "asked", 2 * event.position, searchable_text(question))

    def _document_drawn(self, db: sqlite3.Connection, event: Event, fact: DocumentDrawn) -> None:
        document = id_of_blob(fact.document)
        db.execute("UPDATE episodes SET level = ? WHERE stream = ?", (fact.level, event.stream))
        about = (document, fact.level, event.stream)
        db.execute("UPDATE appearances SET document = ?, level = ? WHERE stream = ?", about)
        if not db.execute("SELECT 1 FROM appearances WHERE question = ? LIMIT 1", (document,)).fetchone():
            text = self._texts.question(fact.document)
            columns = {"question": document, "blob": fact.document, "title": one_line(text.statement, TITLE_LENGTH)}
            _write_appearance(db, event, origin="document", **columns)
            _write_text(db, "asked", 2 * event.position, searchable_text(text))

    def _question_proposed(self, db: sqlite3.Connection, event: Event, fact: QuestionProposed) -> None:
        iteration, axis, goalpost = self._episode(db, event.stream)
        texts = self._texts.completions(fact.generation.texts)
        proposal = {"seat": fact.seat, "parent": fact.parent, "origin": ORIGINS[fact.seat], "axis": axis, "goalpost": goalpost}
        completion = {"texts": fact.generation.texts, "title": one_line(texts[0], TITLE_LENGTH)}
        (level,) = db.execute("SELECT level FROM episodes WHERE stream = ?", (event.stream,)).fetchone() or (None,)
        proposal |= {"document": fact.parent, "level": level} if level else {}
        _write_appearance(db, event, iteration=iteration, attempt=fact.attempt, **proposal, **completion)
        _write_text(db, "asked", 2 * event.position, texts[0])

    def _appearance_changed(self, db: sqlite3.Connection, event: Event) -> None:
        stream = event.stream
        match event.fact:
            case QuestionRejected() as fact:
                query = "UPDATE appearances SET accepted = 0, reason = ?, detail = ? WHERE stream = ? AND version = "
                db.execute(query + _LAST, (fact.reason, storable_text(fact.detail), stream, stream))
                if fact.question is not None and fact.blob is not None:
                    self._set_question(db, event, fact.question, fact.blob)
            case QuestionValidated() as fact:
                query = "UPDATE appearances SET similarity = ?, aligned = ? WHERE stream = ? AND version = "
                db.execute(query + _LAST, (fact.similarity, fact.aligned, stream, stream))
                self._set_question(db, event, fact.question, fact.blob)
            case TextGiven() as fact:
                query = "UPDATE appearances SET given = ? WHERE stream = ? AND version = "
                db.execute(query + _LAST, (text_sentence(fact), stream, stream))
            case LabelVoted() as fact:
                query = "UPDATE appearances SET vote = coalesce(vote || '; ', '') || ? WHERE stream = ? AND version = "
                db.execute(query + _LAST, (vote_sentence(fact), stream, stream))
            case PassRateMeasured() as fact:
                query = "UPDATE appearances SET successes = ?, attempts = ?, agreeing = ? WHERE stream = ? AND version = "
                db.execute(query + _LAST, (fact.successes, fact.attempts, fact.agreeing, stream, stream))
            case QuestionAccepted(seat=seat, question=question):
                query = "UPDATE appearances SET accepted = 1 WHERE stream = ? AND version = "
                db.execute(query + _LAST_OF, (stream, stream, question))
                if seat != "open":
                    counter = "lemmas" if seat == "easy" else "lifts"
                    _, _, goalpost = self._episode(db, stream)
                    db.execute(f"UPDATE goalposts SET {counter} = {counter} + 1 WHERE question = ?", (goalpost,))  # noqa: S608

    def _set_question(self, db: sqlite3.Connection, event: Event, question: QuestionId, blob: BlobHash) -> None:
        """Set the question of the stream's last proposal, which is known once it was parsed."""
        query = "SELECT position, texts, blob FROM appearances WHERE stream = ? ORDER BY version DESC LIMIT 1"
        position, texts, existing = db.execute(query, (event.stream,)).fetchone()
        if existing is not None:
            return
        parsed = self._texts.question(blob)
        title = one_line(parsed.statement, TITLE_LENGTH)
        query = "UPDATE appearances SET question = ?, blob = ?, title = ? WHERE position = ?"
        db.execute(query, (question, blob, title, position))
        # The completion is searchable already; the question only where the completion does not hold it as it is.
        completion = self._texts.completions(texts)[0]
        if storable_text(parsed.statement) not in completion or storable_text(parsed.program or "") not in completion:
            _write_text(db, "asked", 2 * position + 1, searchable_text(parsed))

    def _episode(self, db: sqlite3.Connection, stream: str) -> tuple[int | None, str | None, str | None]:
        """Iteration, axis and goalpost of the episode in a stream; None three times for other streams."""

        def read() -> tuple[int | None, str | None, str | None]:
            query = "SELECT iteration, axis, iif(purpose = 'guided', question, NULL) FROM episodes WHERE stream = ?"
            return db.execute(query, (stream,)).fetchone() or (None, None, None)

        return cached(self._episodes, stream, read)

    def _attempts_made(self, db: sqlite3.Connection, event: Event, fact: AttemptsMade) -> None:
        iteration, axis, goalpost = self._episode(db, event.stream)
        generation = fact.generation
        columns = (
            "position, stream, version, iteration, purpose, question, task, pair, policy, count, tokens, texts, axis, goalpost"
        )
        request = (iteration, fact.purpose, fact.question, fact.task, fact.pair)
        sampled = (generation.policy, generation.count, generation.length, generation.texts)
        row = (event.position, event.stream, event.version, *request, *sampled, axis, goalpost)
        db.execute(f"INSERT INTO answers ({columns}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        _write_text(db, "answered", 2 * event.position, "\n".join(dict.fromkeys(self._texts.completions(generation.texts))))


def _write_appearance(db: sqlite3.Connection, event: Event, **columns: str | int | None) -> None:
    columns |= {"position": event.position, "stream": event.stream, "version": event.version}
    query = f"INSERT INTO appearances ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    db.execute(query, tuple(columns.values()))


def _write_text(db: sqlite3.Connection, table: str, row: int, text: str) -> None:
    db.execute(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", (row, text))  # noqa: S608


def _attempts_verified(db: sqlite3.Connection, event: Event, fact: AttemptsVerified) -> None:
    counts = Counter(verdict.outcome for verdict in fact.verdicts)
    query = "SELECT position, question FROM answers WHERE stream = ? AND version = ?"
    for position, question in db.execute(query, (event.stream, fact.of)).fetchall():
        query = "UPDATE answers SET outcomes = ?, passed = ? WHERE position = ?"
        db.execute(query, (json.dumps(counts), counts["passed"], position))
        asked = db.execute(_ANSWERED, (event.stream, question, question)).fetchall()
        outcomes = [(outcome, place) for outcome in counts for place in (position, *(row[0] for row in asked))]
        db.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?)", outcomes)


def _reward_given(db: sqlite3.Connection, event: Event, fact: RewardGiven) -> None:
    at = (event.stream, fact.of)
    if fact.role == "student":
        query = "UPDATE answers SET reward = ?, rewarded_at = ? WHERE stream = ? AND version = ?"
        db.execute(query, (fmean(fact.rewards), event.position, *at))
    else:
        db.execute("UPDATE appearances SET reward = ? WHERE stream = ? AND version = ?", (fact.rewards[0], *at))


def _evaluation_finished(db: sqlite3.Connection, event: Event, fact: EvaluationFinished) -> None:
    # The attempts of shares are in streams below that of the evaluation; `0` follows `/`.
    query = "UPDATE answers SET iteration = ? WHERE (stream = ? OR (stream > ? AND stream < ?)) AND iteration IS NULL"
    db.execute(query, (fact.iteration, event.stream, f"{event.stream}/", f"{event.stream}0"))
    for question, successes in fact.successes.items():
        if db.execute("SELECT 1 FROM goalposts WHERE question = ?", (question,)).fetchone():
            key = (event.position, event.stream, fact.iteration, fact.policy)
            _write_gap(db, question, (*key, successes, fact.attempts, None))


def _write_gap(db: sqlite3.Connection, goalpost: QuestionId, measure: tuple[Any, ...]) -> None:
    """Write a measured gap, and update the goalpost's figures."""
    db.execute("INSERT INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (goalpost, *measure))
    row = db.execute("SELECT measures, stride, history FROM goalposts WHERE question = ?", (goalpost,)).fetchone()
    if row is None:
        return
    measures, stride, history = row[0], row[1], json.loads(row[2])
    _, _, iteration, _, successes, attempts, best_share = measure
    gap = 1 - successes / attempts
    # Evaluations do not say how many tests an attempt passed, unless it passed all.
    best_share = 1.0 if best_share is None and successes else best_share
    # The last one is always there, and before it every `stride`-th, so that the list stays short however long a run is.
    if history and (measures - 1) % stride:
        history.pop()
    history.append((iteration, gap, best_share))
    if len(history) > HISTORY_SHOWN:
        history, stride = history[::2], 2 * stride
    db.execute(
        """UPDATE goalposts SET measures = ?, stride = ?, history = ?, first_gap = coalesce(first_gap, ?), last_gap = ?,
        best_gap = min(coalesce(best_gap, ?), ?), best_share = max(coalesce(best_share, 0), ?),
        solved_after = coalesce(solved_after, ?) WHERE question = ?""",
        (
            *(measures + 1, stride, json.dumps(history), gap, gap, gap, gap),
            *(best_share or 0.0, iteration if successes else None, goalpost),
        ),
    )
