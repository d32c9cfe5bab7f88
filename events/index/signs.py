"""Writes signs of reward hacking to an index that has the rows of their questions and answers.

`events.pure.reward_hacking` finds the signs; here they get their place in the log. Which question another one repeats is read
from the index itself: the first one whose program has the same structure. Signs are written after the other rows, since
parsing programs takes more time than all else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from events.facts.log import Event
from events.facts.types import AttemptsVerified, GoalpostAdded, QuestionValidated
from events.facts.values import JudgingRules, Question
from events.index.rows import SignEntry
from events.index.texts import TextCache, storable_text
from events.pure.evalplus_sanitizer import extract_program
from events.pure.program_structure import structure_hash
from events.pure.reward_hacking import WarningSign, answer_signs, question_signs

_COLUMNS = "position, rule, evidence, iteration, question, other, stream, version, attempt"
_PROPOSAL = """
SELECT position, version, iteration FROM appearances WHERE stream = ? AND version < ? ORDER BY version DESC LIMIT 1"""
# Programs that answer a question of this stream, or a goalpost. What is written later changes nothing of it.
_ANSWERS = """
SELECT position, (SELECT iteration FROM episodes WHERE episodes.stream = answers.stream), question, texts, coalesce(
    (SELECT blob FROM appearances WHERE stream = answers.stream AND +question = answers.question LIMIT 1),
    (SELECT blob FROM goalposts WHERE question = answers.question)) AS asked
FROM answers WHERE stream = ? AND version = ? AND task = 'induction' AND asked IS NOT NULL"""

_COMPARISON_MARKS = ("==", "!=", "{", "case ", " is ", " in (", " in [", " in(", " in[", " not in")
"""One of these is in every program that compares its input with literals."""


def _candidate_programs(texts: Sequence[str], rules: JudgingRules, entry: str) -> list[str | None]:
    """The program in each completion; None where there is none, or none that compares its input with literals."""
    comparing = {text for text in texts if any(mark in text for mark in _COMPARISON_MARKS)}
    parsed = {text: extract_program(text, rules, entry) for text in comparing}
    return [program if isinstance(program := parsed.get(text), str) else None for text in texts]


class SignIndexer:
    """Writes the signs in questions and answers to an index."""

    def __init__(self, texts: TextCache) -> None:
        self._texts = texts

    def write(self, db: sqlite3.Connection, event: Event) -> None:
        """Write the signs that an event shows."""
        stream, version = event.stream, event.version
        match event.fact:
            case GoalpostAdded() as fact:
                about = SignEntry(event.position, "", "", None, fact.question, None, stream, version)
                _write_question_signs(db, about, self._texts.question(fact.blob), None)
            case QuestionValidated() as fact:
                position, version, iteration = db.execute(_PROPOSAL, (stream, version)).fetchone()
                about = SignEntry(position, "", "", iteration, fact.question, None, stream, version)
                _write_question_signs(db, about, self._texts.question(fact.blob), fact.similarity)
            case AttemptsVerified() as fact:
                for position, iteration, question, texts, blob in db.execute(_ANSWERS, (stream, fact.of)).fetchall():
                    asked = self._texts.question(blob)
                    if asked.public:
                        about = SignEntry(position, "", "", iteration, question, None, stream, fact.of)
                        programs = _candidate_programs(self._texts.completions(texts), fact.provenance.rules, asked.entry)
                        outcomes = [verdict.outcome for verdict in fact.verdicts]
                        _write_signs(db, about, answer_signs(asked, programs, outcomes))


def _write_question_signs(db: sqlite3.Connection, about: SignEntry, question: Question, similarity: float | None) -> None:
    """Write the signs in a question; `about` tells where it appeared, its id, and the iteration."""
    signs = question_signs(question, similarity)
    if question.program is not None and about.question is not None:
        structure = structure_hash(question.program)
        first = db.execute("SELECT question, position FROM shapes WHERE shape = ?", (structure,)).fetchone()
        if first is None:
            db.execute("INSERT INTO shapes VALUES (?, ?, ?)", (structure, about.question, about.position))
        else:
            is_same = first[0] == about.question
            same = "it is the question" if is_same else "its program differs in names and layout only from that"
            signs = [sign for sign in signs if sign.rule != "near_duplicate"]
            signs.append(WarningSign("near_duplicate", f"{same} of position {first[1]}"))
            about = replace(about, other=first[0])
    _write_signs(db, about, signs)


def _write_signs(db: sqlite3.Connection, about: SignEntry, signs: Sequence[WarningSign]) -> None:
    """Write signs, all at one place."""
    for sign in signs:
        other = about.other if sign.rule == "near_duplicate" else None
        columns = (about.iteration, about.question, other, about.stream, about.version, sign.index)
        row = (about.position, sign.rule, storable_text(sign.evidence), *columns)
        db.execute(f"INSERT INTO signs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608  # constants only
