"""Reading a question set: what becomes of each record that a setting asks for.

Law: every record that is read comes out as a question, as one left out for a reason, or as one complaint with file, line and
field; none disappears but those that were not asked for. Nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError

from events.facts.errors import BadInput
from events.facts.values import JudgingRules, Question
from roles.questions import hub, livecodebench, triplets
from roles.questions.fields import FieldError
from roles.questions.files import FileRecord, read_records
from roles.questions.named_sets import SOURCES, BenchmarkSource, Options, RecordLabel
from roles.questions.spec import Spec


class QuestionRecord(NamedTuple):
    """A question, where it stands, and its label."""

    place: str
    label: RecordLabel
    question: Question
    rules: JudgingRules = "own"
    """By which its benchmark judges answers."""


class LeftOutRecord(NamedTuple):
    """A record that was asked for, and why it is not asked."""

    place: str
    label: RecordLabel
    reason: str


RecordOutcome = QuestionRecord | LeftOutRecord | BadInput
"""What becomes of a record."""


def read_question_records(spec: Spec) -> Iterator[RecordOutcome]:
    """What becomes of each record that the spec asks for.

    Raises:
        BadInput: nothing can be read at all.
    """
    source, options = SOURCES[spec.name], effective_options(spec)
    names: dict[str, str] = {}
    known: dict[str, str] = {}
    taken = 0
    for row in _rows(spec, source, options):
        found = row if isinstance(row, BadInput) else _found(row, source, options)
        if isinstance(found, QuestionRecord):
            if options.get("mode") not in (None, found.question.mode):
                continue
            found = _once(found, names, known)
        if found is None:
            continue
        yield found
        taken += isinstance(found, QuestionRecord)
        if taken == int(options.get("limit", 0)) > 0:
            return


def effective_options(spec: Spec) -> dict[str, str]:
    """What is set, with what follows from it.

    Raises:
        BadInput: two settings contradict each other.
    """
    options = dict(spec.options)
    if (paper := options.get("paper")) is None:
        return options
    fixed = livecodebench.PAPER[paper]
    if clash := options.keys() & {"after", "before", "release"}:
        raise BadInput(f"{spec.name}?paper={paper} says {min(clash)} itself; leave out one of the two.")
    # The paper speaks of no errata: its split is the whole window.
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


def _found(row: FileRecord, source: BenchmarkSource, options: Options) -> RecordOutcome | None:
    """What becomes of one record; None if it was not asked for."""
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
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        return BadInput(f"{row.place}, field {where}: {first['msg']}; mend or remove the record.")
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


def _once(entry: QuestionRecord, names: dict[str, str], known: dict[str, str]) -> QuestionRecord | BadInput:
    """The entry, unless its name or question came before."""
    place, name, same = entry.place, entry.label.name, entry.question.id
    if name and name in names:
        return BadInput(f"{place}: a second record called {name}, after {names[name]}; remove one of them.")
    if same in known:
        return BadInput(f"{place}: the same question as {known[same]}; remove one of them.")
    names[name] = known[same] = place
    return entry
