"""Writes signs of reward hacking to an index.

`events.pure.reward_hacking` finds the signs; here they get their place in the log. Which question another one repeats is read
from the index itself: the first one whose program has the same structure.
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
"""One of these is in every program that compares its input with literals."""


def candidate_programs(texts: Sequence[str], rules: JudgingRules, entry: str) -> list[str | None]:
    """The program in each completion; None where there is none, or none that compares its input with literals."""
    comparing = {text for text in texts if any(mark in text for mark in _COMPARISON_MARKS)}
    parsed = {text: extract_program(text, rules, entry) for text in comparing}
    return [program if isinstance(program := parsed.get(text), str) else None for text in texts]


def write_question_signs(db: sqlite3.Connection, about: SignEntry, question: Question, similarity: float | None) -> None:
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
    write_signs(db, about, signs)


def write_signs(db: sqlite3.Connection, about: SignEntry, signs: Sequence[WarningSign]) -> None:
    """Write signs, all at one place."""
    for sign in signs:
        other = about.other if sign.rule == "near_duplicate" else None
        columns = (about.iteration, about.question, other, about.stream, about.version, sign.index)
        row = (about.position, sign.rule, storable_text(sign.evidence), *columns)
        db.execute(f"INSERT INTO signs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608  # constants only
