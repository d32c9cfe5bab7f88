"""Suspicious things, found while a log is indexed.

Law: what is suspicious is said by `events.pure.reward_hacking`; here it is given its place. What one question repeats is known
from the index itself: the first question whose program has the same shape.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from events.facts.values import JudgingRules, Question
from events.index.rows import SignEntry
from events.index.texts import storable_text
from events.pure.evalplus_sanitizer import extract_program
from events.pure.reward_hacking import WarningSign, question_signs, structure_hash

_COLUMNS = "position, rule, evidence, iteration, question, other, stream, version, attempt"


_COMPARISON_MARKS = ("==", "!=", "{", "case ", " is ", " in (", " in [", " in(", " in[", " not in")
"""One of these is in every program that tells some inputs apart from others by their value."""


def candidate_programs(texts: Sequence[str], rules: JudgingRules, entry: str) -> list[str | None]:
    """The program in each completion; None where there is none, or none that could tell some inputs apart from others.

    Args:
        texts: the completions.
        rules: by which they were judged.
        entry: what the question calls.
    """
    parsed = {
        text: extract_program(text, rules, entry) for text in set(texts) if any(mark in text for mark in _COMPARISON_MARKS)
    }
    return [found if isinstance(found := parsed.get(text), str) else None for text in texts]


def write_question_signs(db: sqlite3.Connection, about: SignEntry, question: Question, similarity: float | None) -> None:
    """Write down what is suspicious about a question.

    Args:
        db: the index.
        about: where it appeared; its id, and the iteration.
        question: it.
        similarity: the largest to an accepted one, where anybody measured it.
    """
    found = question_signs(question, similarity)
    if question.program is not None and about.question is not None:
        form = structure_hash(question.program)
        known = db.execute("SELECT question, position FROM shapes WHERE shape = ?", (form,)).fetchone()
        if known is None:
            db.execute("INSERT INTO shapes VALUES (?, ?, ?)", (form, about.question, about.position))
        else:
            same = (
                "it is the question" if known[0] == about.question else "its program differs in names and layout only from that"
            )
            found = [sign for sign in found if sign.rule != "near_duplicate"]
            found.append(WarningSign("near_duplicate", f"{same} of position {known[1]}"))
            about = replace(about, other=known[0])
    write_signs(db, about, found)


def write_signs(db: sqlite3.Connection, about: SignEntry, found: Sequence[WarningSign]) -> None:
    """Write signs down, all about the same."""
    for sign in found:
        other = about.other if sign.rule == "near_duplicate" else None
        place = (about.iteration, about.question, other, about.stream, about.version, sign.index)
        row = (about.position, sign.rule, storable_text(sign.evidence), *place)
        db.execute(f"INSERT INTO signs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608  # constants only
