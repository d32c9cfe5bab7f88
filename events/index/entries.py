"""Writes the rows of each fact to an index.

Guarantees: every row follows from the log alone; no state is kept but caches, so that it resumes after any stop.
Not responsible for: transactions (`events.index.writer`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from statistics import fmean

from events.facts.certainty_facts import TextGiven
from events.facts.drawn_facts import DocumentDrawn
from events.facts.label_facts import LabelVoted
from events.facts.log import Event
from events.facts.types import (
    AnyFact,
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
from events.index.row_buffer import Row, RowBuffer
from events.index.rows import GapEntry, Origin
from events.index.texts import TextCache, searchable_text, storable_text
from events.text.phrases import text_sentence, vote_sentence
from events.text.safe_text import one_line

TITLE_LENGTH = 120
"""Characters of a statement that a list shows."""
HISTORY_SHOWN = 60
"""Most measures of a goalpost that a list shows."""

READ_TOGETHER = 50
"""Events whose texts are read together."""

ORIGINS: dict[Seat, Origin] = {"easy": "lemma", "hard": "lift", "open": "open"}


class FactIndexer:
    """Writes the rows of facts to an index."""

    def __init__(self, texts: TextCache) -> None:
        self._texts = texts

    def write(self, db: sqlite3.Connection, events: Iterator[Event]) -> None:
        """Write the rows of events that follow one another."""
        rows = RowBuffer(db)
        while some := list(islice(events, READ_TOGETHER)):
            self._texts.load({blob for event in some for blob in _texts_of(event.fact)})
            for event in some:
                self._apply(rows, event)
        rows.flush()

    def _apply(self, rows: RowBuffer, event: Event) -> None:
        match event.fact:
            case AttemptsMade() as fact:
                self._attempts_made(rows, event, fact)
            case AttemptsVerified() as fact:
                _attempts_verified(rows, event, fact)
            case RewardGiven() as fact:
                _reward_given(rows, event, fact)
            case QuestionProposed() as fact:
                self._question_proposed(rows, event, fact)
            case (
                QuestionRejected() | QuestionValidated() | LabelVoted() | PassRateMeasured() | QuestionAccepted() | TextGiven()
            ):
                self._appearance_changed(rows, event)
            case EpisodeStarted() as fact:
                self._episode_started(rows, event, fact)
            case DocumentDrawn() as fact:
                self._document_drawn(rows, event, fact)
            case EpisodeFinished() | EpisodeFailed():
                _episode_ended(rows, event)
            case GapMeasured() as fact:
                _gap_measured(rows, event, fact)
            case EvaluationFinished() as fact:
                _evaluation_finished(rows, event, fact)
            case IterationStarted(iteration=iteration, policies=policies):
                rows.db.execute("INSERT OR REPLACE INTO iterations VALUES (?, ?)", (iteration, policies["student"]))
            case GoalpostAdded() as fact:
                self._goalpost_added(rows, event, fact)

    def _goalpost_added(self, rows: RowBuffer, event: Event, fact: GoalpostAdded) -> None:
        question = self._texts.question(fact.blob)
        title, source = one_line(question.statement, TITLE_LENGTH), storable_text(fact.source)
        rows.add_goalpost(**_place(event), question=fact.question, blob=fact.blob, title=title, source=source)
        rows.add_text("asked", 2 * event.position, searchable_text(question))

    def _episode_started(self, rows: RowBuffer, event: Event, fact: EpisodeStarted) -> None:
        episode = {"iteration": fact.iteration, "purpose": fact.purpose, "question": fact.question, "axis": fact.axis}
        rows.add_episode(stream=event.stream, position=event.position, **episode)
        if fact.purpose == "guided" and (goalpost := rows.goalpost(fact.question)):
            goalpost["episodes"] += 1
        if fact.purpose == "practice":
            question = self._texts.question(fact.blob)
            title = one_line(question.statement, TITLE_LENGTH)
            columns = {"question": fact.question, "blob": fact.blob, "title": title}
            rows.add_appearance(**_place(event), origin="practice", iteration=fact.iteration, **columns)
            rows.add_text("asked", 2 * event.position, searchable_text(question))

    def _document_drawn(self, rows: RowBuffer, event: Event, fact: DocumentDrawn) -> None:
        document = id_of_blob(fact.document)
        if episode := rows.episode(event.stream):
            episode["level"] = fact.level
        for row in rows.appearances(event.stream):
            row |= {"document": document, "level": fact.level}
        if not rows.has_appeared(document):
            text = self._texts.question(fact.document)
            columns = {"question": document, "blob": fact.document, "title": one_line(text.statement, TITLE_LENGTH)}
            rows.add_appearance(**_place(event), origin="document", **columns)
            rows.add_text("asked", 2 * event.position, searchable_text(text))

    def _question_proposed(self, rows: RowBuffer, event: Event, fact: QuestionProposed) -> None:
        episode = rows.episode(event.stream)
        texts = self._texts.completions(fact.generation.texts)
        proposal = {"seat": fact.seat, "parent": fact.parent, "origin": ORIGINS[fact.seat], "attempt": fact.attempt}
        completion = {"texts": fact.generation.texts, "title": one_line(texts[0], TITLE_LENGTH)}
        if episode and episode["level"]:
            proposal |= {"document": fact.parent, "level": episode["level"]}
        rows.add_appearance(**_place(event), **_of_episode(episode), **proposal, **completion)
        rows.add_text("asked", 2 * event.position, texts[0])

    def _appearance_changed(self, rows: RowBuffer, event: Event) -> None:
        appearances = rows.appearances(event.stream)
        if not appearances:
            return
        last = appearances[-1]
        match event.fact:
            case QuestionRejected() as fact:
                last |= {"accepted": 0, "reason": fact.reason, "detail": storable_text(fact.detail)}
                if fact.question is not None and fact.blob is not None:
                    self._set_question(rows, last, fact.question, fact.blob)
            case QuestionValidated() as fact:
                last |= {"similarity": fact.similarity, "aligned": fact.aligned}
                self._set_question(rows, last, fact.question, fact.blob)
            case TextGiven() as fact:
                last["given"] = text_sentence(fact)
            case LabelVoted() as fact:
                last["vote"] = "; ".join(filter(None, (last["vote"], vote_sentence(fact))))
            case PassRateMeasured() as fact:
                last |= {"successes": fact.successes, "attempts": fact.attempts, "agreeing": fact.agreeing}
            case QuestionAccepted(seat=seat, question=question):
                for row in [row for row in appearances if row["question"] == question][-1:]:
                    row["accepted"] = 1
                goalpost = _of_episode(rows.episode(event.stream)).get("goalpost")
                if seat != "open" and goalpost and (figures := rows.goalpost(goalpost)):
                    figures["lemmas" if seat == "easy" else "lifts"] += 1

    def _set_question(self, rows: RowBuffer, row: Row, question: QuestionId, blob: BlobHash) -> None:
        """Set the question of a proposal, which is known once it was parsed."""
        if row["blob"] is not None:
            return
        parsed = self._texts.question(blob)
        row |= {"question": question, "blob": blob, "title": one_line(parsed.statement, TITLE_LENGTH)}
        # The completion is searchable already; the question only where the completion does not hold it as it is.
        completion = self._texts.completions(row["texts"])[0]
        if storable_text(parsed.statement) not in completion or storable_text(parsed.program or "") not in completion:
            rows.add_text("asked", 2 * row["position"] + 1, searchable_text(parsed))

    def _attempts_made(self, rows: RowBuffer, event: Event, fact: AttemptsMade) -> None:
        generation = fact.generation
        request = {"purpose": fact.purpose, "question": fact.question, "task": fact.task, "pair": fact.pair}
        sampled = {
            "policy": generation.policy,
            "count": generation.count,
            "tokens": generation.length,
            "texts": generation.texts,
        }
        rows.add_answers(**_place(event), **_of_episode(rows.episode(event.stream)), **request, **sampled)
        texts = dict.fromkeys(self._texts.completions(generation.texts))
        rows.add_text("answered", 2 * event.position, "\n".join(texts))


def _texts_of(fact: AnyFact) -> tuple[BlobHash, ...]:
    """The text or question that the rows of a fact are made from; nothing where they seldom need it."""
    match fact:
        case AttemptsMade(generation=generation) | QuestionProposed(generation=generation):
            return (generation.texts,)
        case QuestionValidated(blob=blob) | GoalpostAdded(blob=blob) | EpisodeStarted(purpose="practice", blob=blob):
            return (blob,)
    return ()


def _place(event: Event) -> Row:
    return {"position": event.position, "stream": event.stream, "version": event.version}


def _of_episode(episode: Row | None) -> Row:
    """Iteration, axis and goalpost of an episode; none of them for streams of evaluations."""
    if episode is None:
        return {}
    goalpost = episode["question"] if episode["purpose"] == "guided" else None
    return {"iteration": episode["iteration"], "axis": episode["axis"], "goalpost": goalpost}


def _attempts_verified(rows: RowBuffer, event: Event, fact: AttemptsVerified) -> None:
    answers = rows.answers(event.stream, fact.of)
    if answers is None:
        return
    outcomes = [verdict.outcome for verdict in fact.verdicts]
    counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    answers |= {"outcomes": json.dumps(counts), "passed": counts.get("passed", 0)}
    for position in (answers["position"], *rows.appeared(answers["question"], event.stream)):
        for outcome in counts:
            rows.add_outcome(outcome, position)


def _reward_given(rows: RowBuffer, event: Event, fact: RewardGiven) -> None:
    if fact.role == "student":
        if answers := rows.answers(event.stream, fact.of):
            answers |= {"reward": fmean(fact.rewards), "rewarded_at": event.position}
    else:
        for row in rows.appearances(event.stream):
            if row["version"] == fact.of:
                row["reward"] = fact.rewards[0]


def _episode_ended(rows: RowBuffer, event: Event) -> None:
    if episode := rows.episode(event.stream):
        episode["ending"] = event.fact.reason if isinstance(event.fact, EpisodeFinished) else "failed"


def _gap_measured(rows: RowBuffer, event: Event, fact: GapMeasured) -> None:
    iteration = _of_episode(rows.episode(event.stream)).get("iteration")
    query = "SELECT student FROM iterations WHERE iteration = ?"
    (student,) = rows.db.execute(query, (iteration,)).fetchone() or (None,)
    at = event.position, event.stream, iteration or 0, student
    _write_gap(rows, fact.question, GapEntry(*at, fact.successes, fact.attempts, fact.best_share))


def _evaluation_finished(rows: RowBuffer, event: Event, fact: EvaluationFinished) -> None:
    rows.flush()
    # The attempts of shares are in streams below that of the evaluation; `0` follows `/`.
    query = "UPDATE answers SET iteration = ? WHERE (stream = ? OR (stream > ? AND stream < ?)) AND iteration IS NULL"
    rows.db.execute(query, (fact.iteration, event.stream, f"{event.stream}/", f"{event.stream}0"))
    for question, successes in fact.successes.items():
        if rows.goalpost(question):
            at = event.position, event.stream, fact.iteration, fact.policy
            _write_gap(rows, question, GapEntry(*at, successes, fact.attempts, None))


def _write_gap(rows: RowBuffer, goalpost: QuestionId, measure: GapEntry) -> None:
    """Write a measured gap, and update the goalpost's figures."""
    rows.add_gap(goalpost, measure)
    row = rows.goalpost(goalpost)
    if row is None:
        return
    # Evaluations do not say how many tests an attempt passed, unless it passed all.
    best_share = 1.0 if measure.best_share is None and measure.successes else measure.best_share
    history = json.loads(row["history"])
    # The last one is always there, and before it every `stride`-th, so that the list stays short however long a run is.
    if history and (row["measures"] - 1) % row["stride"]:
        history.pop()
    history.append((measure.iteration, measure.gap, best_share))
    if len(history) > HISTORY_SHOWN:
        history, row["stride"] = history[::2], 2 * row["stride"]
    row |= {"measures": row["measures"] + 1, "history": json.dumps(history), "last_gap": measure.gap}
    first, best, solved = row["first_gap"], row["best_gap"], row["solved_after"]
    row["first_gap"] = measure.gap if first is None else first
    row["best_gap"] = measure.gap if best is None else min(best, measure.gap)
    row["best_share"] = max(row["best_share"] or 0.0, best_share or 0.0)
    row["solved_after"] = measure.iteration if solved is None and measure.successes else solved
