"""The query language of searches: parses a line of text into terms, and turns terms into SQL.

Guarantees: a query becomes terms, or raises one sentence that says what is wrong. Only known names become SQL; everything else
is a bound value.

    reverse "for x in" -passed*          texts hold the word and the phrase, and no word with this prefix
    verdict:timeout axis:io passrate<0.2 fields; all must hold
    kind:lemma -accepted:yes goalpost:3f a minus negates
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from events.facts.errors import BadInput
from events.facts.types import Purpose, Reason
from events.facts.values import Axis, Outcome, Seat, Task
from events.index.rows import Origin
from events.index.texts import storable_text

Kind = Literal["question", "answers"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""Kinds of rows that are searched."""
ALIASES: Final = {"timeout": "time_limit"}
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": (*get_args(Origin), "answers"),
    "verdict": get_args(Outcome),
    "axis": get_args(Axis),
    "seat": get_args(Seat),
    "task": get_args(Task),
    "purpose": get_args(Purpose),
    "reason": get_args(Reason),
    "accepted": ("yes", "no"),
    "aligned": ("yes", "no"),
}
"""Fields with a fixed set of values."""
NUMBERS: Final = ("passrate", "reward", "similarity", "iteration", "tokens")
"""Numeric fields."""
PREFIXES: Final[Mapping[str, int]] = {"policy": 64, "question": 16, "goalpost": 16}
"""Fields of ids, which match by prefix, with the length of a whole id, which matches by equality."""
MAX_TERMS: Final = 64
"""Most terms of a query."""
AFTER_ALL_TEXTS: Final = "\U0010ffff"
"""Appended to a prefix, it sorts behind all texts with this prefix."""
FIELDS: Final = (*CHOICES, *PREFIXES, "source", *NUMBERS)

_VERDICT: Final = "EXISTS (SELECT 1 FROM outcomes WHERE outcomes.position = r.position AND outcome = ?)"
_COLUMNS: Final[Mapping[Kind, Mapping[str, str]]] = {
    "question": {
        **{name: f"r.{name} = ?" for name in ("axis", "seat", "reason", "accepted", "aligned", "source")},
        **{name: f"r.{name}" for name in ("question", "goalpost", "reward", "similarity", "iteration")},
        "kind": "r.origin = ?",
        "verdict": _VERDICT,
        "passrate": "1.0 * r.successes / r.attempts",
    },
    "answers": {
        **{name: f"r.{name} = ?" for name in ("axis", "task", "purpose")},
        **{name: f"r.{name}" for name in ("policy", "question", "goalpost", "reward", "iteration", "tokens")},
        "kind": "'answers' = ?",
        "verdict": _VERDICT,
        "passrate": "1.0 * r.passed / r.count",
    },
}
_ROWS: Final[Mapping[Kind, str]] = {"question": "appearances", "answers": "answers"}
_TEXTS: Final[Mapping[Kind, str]] = {"question": "asked", "answers": "answered"}

_TERM = re.compile(
    r"""\s*(?P<minus>-?)(?:(?P<field>[A-Za-z_]+)(?P<operator>:|<=|>=|<|>|=))?(?:"(?P<phrase>[^"]*)"(?P<star>\*?)|(?P<word>[^\s"]*))""",
    re.DOTALL,
)


@dataclass(frozen=True)
class QueryTerm:
    """One condition of a query."""

    value: str
    """The text, or the value that the field is compared with."""
    field: str | None = None
    """None for a search in texts."""
    operator: str = ":"
    negated: bool = False
    prefix: bool = False
    """Whether the text's last word matches as a prefix."""


class SqlQuery(NamedTuple):
    """SQL with its parameters."""

    sql: str
    values: tuple[str | float | int, ...]


def parse_query(query: str) -> list[QueryTerm]:
    """The terms of a query.

    Raises:
        BadInput: it cannot be read.
    """
    terms: list[QueryTerm] = []
    at, query = 0, storable_text(query).strip()
    while at < len(query):
        match = _TERM.match(query, at)
        if match is None or (query[match.end() : match.end() + 1] == '"' and not match["phrase"] and not match["word"]):
            message = f"The query {query!r} has a phrase that does not end"
            raise BadInput(f"{message}; put another quotation mark behind it, or leave its first one out.")
        terms.append(_term(match))
        if len(terms) > MAX_TERMS:
            message = f"The query has more than {MAX_TERMS} terms"
            raise BadInput(f"{message}; leave some out, or put words that follow one another in quotes.")
        at = match.end()
    return terms


def _term(match: re.Match[str]) -> QueryTerm:
    negated, name = bool(match["minus"]), match["field"]
    value = match["word"] if match["phrase"] is None else match["phrase"]
    if name is None:
        prefix = bool(match["star"]) or (match["phrase"] is None and value.endswith("*"))
        if not any(character.isalnum() for character in value):
            message = f"The query searches for {match[0].strip()!r}, in which there is no letter or digit"
            raise BadInput(f'{message}; give a word, a "phrase", or a field: {", ".join(FIELDS)}.')
        return QueryTerm(value, negated=negated, prefix=prefix)
    name = name.lower()
    if name not in FIELDS:
        message = f"The query asks for the field {name!r}, and the fields are {', '.join(FIELDS)}"
        raise BadInput(f'{message}; take one of them, or put a text that has a ":" or "=" in it in quotes.')
    return QueryTerm(_value(name, match["operator"], value), name, match["operator"], negated)


def _value(name: str, operator: str, value: str) -> str:
    """The value in the form in which it is compared.

    Raises:
        BadInput: the field has no such value.
    """
    if name in NUMBERS:
        if not _is_number(value):
            raise BadInput(f"The query compares {name} with {value!r}, which is no number; write for instance {name}<0.5.")
        return value
    if operator not in (":", "="):
        message = f"The query compares {name} by {operator}, which only numbers can be: {', '.join(NUMBERS)}"
        raise BadInput(f"{message}; write {name}:VALUE.")
    value = ALIASES.get(value.lower(), value.lower()) if name in CHOICES else value
    if name in CHOICES and value not in CHOICES[name]:
        raise BadInput(f"The query asks for {name} {value!r}, and there is no such; take one of {', '.join(CHOICES[name])}.")
    if not value:
        raise BadInput(f"The query asks for {name} without a value; write {name}:VALUE.")
    return value


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def select_rows(terms: Sequence[QueryTerm], kind: Kind, *, after: int = 0, before: int, limit: int) -> SqlQuery | None:
    """SQL for the matching rows of one kind between two positions, the latest first; None if this kind lacks a queried field.

    Rows are found by the text index if words are searched, else by the list of positions of a verdict, else by a scan. Each
    gives the latest first and stops at the limit.
    """
    fields = [term for term in terms if term.field is not None]
    if any(term.field not in _COLUMNS[kind] for term in fields):
        return None
    rows, position = f"{_ROWS[kind]} AS r", "r.position"
    conditions: list[SqlQuery] = []
    words = [term for term in terms if term.field is None]
    if any(not term.negated for term in words):
        texts = _TEXTS[kind]
        # CROSS JOIN fixes the order for SQLite's planner: matches first, then their rows.
        rows, position = f"{texts} CROSS JOIN {rows} ON r.position = {texts}.rowid / 2", f"{texts}.rowid"
        conditions.append(SqlQuery(f"{texts} MATCH ?", (match_expression(words),)))
    else:
        conditions += _without(words, kind, after, before)
        verdict = next((term for term in fields if term.field == "verdict" and not term.negated), None)
        if verdict is not None:
            rows, position = f"outcomes CROSS JOIN {rows} USING (position)", "outcomes.position"
            conditions.append(SqlQuery("outcomes.outcome = ?", (verdict.value,)))
            fields.remove(verdict)
    scale = 2 if position.endswith("rowid") else 1
    conditions.append(SqlQuery(f"{position} >= ? AND {position} < ?", (scale * (after + 1), scale * before)))
    conditions += [_condition(term, _COLUMNS[kind][term.field]) for term in fields if term.field is not None]
    where = " AND ".join(condition.sql for condition in conditions) or "1"
    values = tuple(value for condition in conditions for value in condition.values)
    # A proposal's two texts follow one another, so the limit leaves room for both.
    return SqlQuery(f"SELECT r.* FROM {rows} WHERE {where} ORDER BY {position} DESC LIMIT ?", (*values, 2 * limit))  # noqa: S608


def _without(words: Sequence[QueryTerm], kind: Kind, after: int, before: int) -> list[SqlQuery]:
    texts = _TEXTS[kind]
    inside = f"{texts} MATCH ? AND rowid > ? AND rowid < ?"
    condition = f"r.position NOT IN (SELECT rowid / 2 FROM {texts} WHERE {inside})"  # noqa: S608  # constants only
    return [SqlQuery(condition, (_quoted(term), 2 * after, 2 * before)) for term in words]


def match_expression(words: Sequence[QueryTerm]) -> str:
    """Expression of the text index for words, of which at least one is not negated."""
    wanted = " AND ".join(_quoted(term) for term in words if not term.negated)
    unwanted = " OR ".join(_quoted(term) for term in words if term.negated)
    return f"({wanted}) NOT ({unwanted})" if unwanted else wanted


def _quoted(term: QueryTerm) -> str:
    # Between quotes nothing is an operator of the text index.
    text = term.value.rstrip("*") if term.prefix else term.value
    return '"' + text.replace('"', '""') + '"' + ("*" if term.prefix else "")


def _condition(term: QueryTerm, column: str) -> SqlQuery:
    values: tuple[str | float | int, ...]
    if term.field in NUMBERS:
        operator = "=" if term.operator == ":" else term.operator
        sql, values = f"{column} {operator} ?", (float(term.value),)
    elif (whole := PREFIXES.get(term.field or "")) is not None:
        begin = term.value.lower()
        # Bounds instead of a pattern: an index finds them, and nothing in the value is more than text.
        sql, values = f"{column} >= ? AND {column} < ?", (begin, begin + AFTER_ALL_TEXTS)
        if len(begin) >= whole:
            sql, values = f"{column} = ?", (begin,)
    else:
        sql, values = column, ({"yes": 1, "no": 0}.get(term.value, term.value),)
    return SqlQuery(f"NOT coalesce({sql}, 0)" if term.negated else f"({sql})", values)
