"""Reads a question set record by record.

Guarantees: every record that was asked for becomes a question, is left out with a reason, or is one error with file, line and
field. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from events.facts.errors import BadInput
from events.facts.values import JudgingRules, Question
from events.text.validation import first_problem
from roles.questions import hub, livecodebench, triplets
from roles.questions.fields import FieldError
from roles.questions.files import FileRecord, read_records
from roles.questions.named_sets import SOURCES, BenchmarkSource, Options, RecordLabel
from roles.questions.spec import Spec


class QuestionRecord(NamedTuple):
    """A question with the place and label of its record."""

    place: str
    label: RecordLabel
    question: Question
    rules: JudgingRules = "own"


class LeftOutRecord(NamedTuple):
    """A record that is left out, and why."""

    place: str
    label: RecordLabel
    reason: str


RecordOutcome = QuestionRecord | LeftOutRecord | BadInput
"""The result of reading a record."""


def read_question_records(spec: Spec) -> Iterator[RecordOutcome]:
    """Read each record that the spec asks for; BadInput if nothing can be read at all."""
    source, options = SOURCES[spec.name], effective_options(spec)
    names: dict[str, str] = {}
    ids: dict[str, str] = {}
    count = 0
    for row in _rows(spec, source, options):
        outcome = row if isinstance(row, BadInput) else _read_record(row, source, options)
        if isinstance(outcome, QuestionRecord):
            if options.get("mode") not in (None, outcome.question.mode):
                continue
            outcome = _once(outcome, names, ids)
        if outcome is None:
            continue
        yield outcome
        count += isinstance(outcome, QuestionRecord)
        if count == int(options.get("limit", 0)) > 0:
            return


def effective_options(spec: Spec) -> dict[str, str]:
    """The options of a spec, with those that `paper=...` stands for; BadInput if two options contradict each other."""
    options = dict(spec.options)
    if (paper := options.get("paper")) is None:
        return options
    fixed = livecodebench.PAPER[paper]
    if clash := options.keys() & {"after", "before", "release"}:
        raise BadInput(f"{spec.name}?paper={paper} says {min(clash)} itself; leave out one of the two.")
    # The paper does not mention errata: its split is the whole window.
    return {"errata": "keep", **options, **fixed}


def _rows(spec: Spec, source: BenchmarkSource, options: Options) -> Iterator[FileRecord | BadInput]:
    if spec.name == "livecodebench":
        return _releases(spec, options)
    if spec.place is not None:
        return read_records(spec.place)
    if not source.on_hub:
        raise BadInput(f"{spec.name} is read from a file; give it: {spec.name}:FILE.")
    return hub.hub_records(spec.name)


def _releases(spec: Spec, options: Options) -> Iterator[FileRecord | BadInput]:
    """LiveCodeBench's records: of one file, or of those of a release, in a folder or from the hub."""
    files = livecodebench.RELEASES[: int(options.get("release", "v6")[1:])]
    if spec.place is not None and not spec.place.is_dir():
        if "release" in spec.options:
            raise BadInput(f"{spec.place} is one file, which knows no release; name the folder that holds {', '.join(files)}.")
        yield from read_records(spec.place)
        return
    for name in files:
        yield from read_records(hub.hub_file(name) if spec.place is None else spec.place / name)


def _read_record(row: FileRecord, source: BenchmarkSource, options: Options) -> RecordOutcome | None:
    """Read one record; None if it was not asked for."""
    try:
        label = source.label(row.record)
        if not source.admits(label, options):
            return None
        if options.get("errata", "drop") == "drop" and (why := source.errata.get(label.name)):
            return LeftOutRecord(row.place, label, why)
        if not label.date and options.keys() & {"after", "before"}:
            return LeftOutRecord(row.place, label, "no contest date, so that no window holds it")
        question, rules = source.question(row.record, options), source.rules(row.record)
        _encodable(question)
    except triplets.Unverifiable as error:
        if options.get("errata") == "keep":
            return BadInput(f"{row.place}: {error}; mend it, or leave out errata=keep.")
        return LeftOutRecord(row.place, label, str(error))
    except FieldError as error:
        return BadInput(f"{row.place}, {error}; mend or remove the record.")
    except ValidationError as error:
        field, problem = first_problem(error)
        return BadInput(f"{row.place}, field {field or 'record'}: {problem}; mend or remove the record.")
    except RecursionError:
        return BadInput(f"{row.place}: a value is nested too deeply; mend or remove the record.")
    return QuestionRecord(row.place, label, question, rules)


def _encodable(question: Question) -> None:
    texts = {name: [getattr(question, name) or ""] for name in ("statement", "program", "entry", "context")}
    tests = {name: [t for pair in getattr(question, name) for t in (pair.input, pair.output)] for name in ("public", "private")}
    for name, held in {**texts, **tests}.items():
        for text in held:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise FieldError(name, "half of a surrogate pair, which is no text") from error


def _once(entry: QuestionRecord, names: dict[str, str], ids: dict[str, str]) -> QuestionRecord | BadInput:
    """The record, or an error if its name or question occurred before."""
    place, name, same = entry.place, entry.label.name, entry.question.id
    if name and name in names:
        return BadInput(f"{place}: a second record called {name}, after {names[name]}; remove one of them.")
    if same in ids:
        return BadInput(f"{place}: the same question as {ids[same]}; remove one of them.")
    names[name] = ids[same] = place
    return entry
