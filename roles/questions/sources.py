"""The named question sets: what each knows to be set, where its records come from, and how they are read.

Law: every record that is read comes out as a question, as one left out for a reason, or as one complaint with file, line and
field; none disappears but those that were not asked for. Nothing is executed. A new benchmark is one row of `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, NamedTuple

from pydantic import ValidationError

from events.errors import BadInput
from events.values import Question
from roles.question_set import Split
from roles.questions import errata, hub, humaneval, livecodebench, mbpp, own, triplets
from roles.questions.fields import Record, Wrong
from roles.questions.files import Row, rows
from roles.questions.spec import Spec, Values, parsed

Options = Mapping[str, str]


class Label(NamedTuple):
    """What a source says of a record, before its tests are looked at."""

    name: str
    """What the benchmark calls it; empty where it has no name."""
    date: str = ""
    """Of the contest, such as 2024-08-01."""
    platform: str = ""
    difficulty: str = ""


class Entry(NamedTuple):
    """A question, where it stands, and its label."""

    place: str
    label: Label
    question: Question


class LeftOut(NamedTuple):
    """A record that was asked for, and why it is not asked."""

    place: str
    label: Label
    reason: str


Found = Entry | LeftOut | BadInput
"""What becomes of a record."""


@dataclass(frozen=True)
class Source:
    """A named question set."""

    about: str
    """What it is, for people."""
    question: Callable[[Record, Options], Question]
    """A record as a question."""
    label: Callable[[Record], Label]
    """What a record is called."""
    keys: Mapping[str, Values] = field(default_factory=dict)
    """What it knows to be set, besides `COMMON`."""
    admits: Callable[[Label, Options], bool] = lambda label, options: True
    """Whether a record was asked for."""
    errata: Mapping[str, str] = field(default_factory=dict)
    """Names of records that cannot be judged, and why."""
    on_hub: bool = True
    """Whether its name is enough."""


COMMON: Final[dict[str, Values]] = {"mode": ("function", "stdin", "checks"), "errata": ("drop", "keep"), "limit": int}
"""What can be set for every named set."""


def examined(spec: Spec) -> Iterator[Found]:
    """What becomes of each record that the spec asks for.

    Raises:
        BadInput: nothing can be read at all.
    """
    source, options = SOURCES[spec.name], settled(spec)
    names: dict[str, str] = {}
    known: dict[str, str] = {}
    taken = 0
    for row in _rows(spec, source, options):
        found = row if isinstance(row, BadInput) else _found(row, source, options)
        if isinstance(found, Entry):
            if options.get("mode") not in (None, found.question.mode):
                continue
            found = _once(found, names, known)
        if found is None:
            continue
        yield found
        taken += isinstance(found, Entry)
        if taken == int(options.get("limit", 0)) > 0:
            return


def named(text: str, split: Split) -> Spec:
    """The spec of a setting; what it is for chooses among MBPP's splits where the setting does not.

    Raises:
        BadInput: it names no set, or sets what there is not.
    """
    spec = parsed(text, KEYS)
    if "split" not in KEYS[spec.name] or "split" in spec.options:
        return spec
    return replace(spec, options={**spec.options, "split": "test" if split == "test" else "train"})


def settled(spec: Spec) -> dict[str, str]:
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


def _rows(spec: Spec, source: Source, options: Options) -> Iterator[Row | BadInput]:
    if spec.name == "livecodebench":
        return _releases(spec, options)
    if spec.place is not None:
        return rows(spec.place)
    if not source.on_hub:
        raise BadInput(f"{spec.name} is read from a file; give it: {spec.name}:FILE.")
    return hub.table(spec.name)


def _releases(spec: Spec, options: Options) -> Iterator[Row | BadInput]:
    """LiveCodeBench's records: of one file, or of those of a release, in a folder or from the hub."""
    files = livecodebench.RELEASES[: int(options.get("release", "v6")[1:])]
    if spec.place is not None and not spec.place.is_dir():
        if "release" in spec.options:
            raise BadInput(f"{spec.place} is one file, which knows no release; name the folder that holds {', '.join(files)}.")
        yield from rows(spec.place)
        return
    for name in files:
        yield from rows(hub.file(name) if spec.place is None else spec.place / name)


def _found(row: Row, source: Source, options: Options) -> Found | None:
    """What becomes of one record; None if it was not asked for."""
    try:
        label = source.label(row.record)
        if not source.admits(label, options):
            return None
        if options.get("errata", "drop") == "drop" and (why := source.errata.get(label.name)):
            return LeftOut(row.place, label, why)
        if not label.date and options.keys() & {"after", "before"}:
            return LeftOut(row.place, label, "no contest date, so that no window holds it")
        question = source.question(row.record, options)
        _encodable(question)
    except triplets.Unverifiable as error:
        if options.get("errata") == "keep":
            return BadInput(f"{row.place}: {error}; mend it, or leave out errata=keep.")
        return LeftOut(row.place, label, str(error))
    except Wrong as error:
        return BadInput(f"{row.place}, {error}; mend or remove the record.")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        return BadInput(f"{row.place}, field {where}: {first['msg']}; mend or remove the record.")
    except RecursionError:
        return BadInput(f"{row.place}: a value is nested too deeply; mend or remove the record.")
    return Entry(row.place, label, question)


def _encodable(question: Question) -> None:
    texts = {"statement": [question.statement], "program": [question.program or ""], "entry": [question.entry]}
    tests = {name: [t for pair in getattr(question, name) for t in (pair.input, pair.output)] for name in ("public", "private")}
    for name, held in {**texts, **tests}.items():
        for text in held:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise Wrong(name, "half of a surrogate pair, which is no text") from error


def _once(entry: Entry, names: dict[str, str], known: dict[str, str]) -> Entry | BadInput:
    """The entry, unless its name or question came before."""
    place, name, same = entry.place, entry.label.name, entry.question.id
    if name and name in names:
        return BadInput(f"{place}: a second record called {name}, after {names[name]}; remove one of them.")
    if same in known:
        return BadInput(f"{place}: the same question as {known[same]}; remove one of them.")
    names[name] = known[same] = place
    return entry


def _task(record: Record) -> Label:
    return Label(record.text("task_id"))


def _nameless(record: Record) -> Label:
    return Label("")


def _mbpp_task(record: Record) -> Label:
    return Label(f"Mbpp/{mbpp.number_of(record)}")


def _in_mbpp_split(label: Label, options: Options) -> bool:
    first, last = mbpp.SPLITS[options.get("split", "all")]
    return first <= int(label.name.removeprefix("Mbpp/")) <= last


def _contest(record: Record) -> Label:
    day = record.values.get("contest_date")
    if day is not None:
        day = record.text("contest_date")[:10]
        try:
            day = date.fromisoformat(day).isoformat()
        except ValueError as error:
            raise Wrong("contest_date", "expected a date such as 2024-08-01T00:00:00, or null") from error
    return Label(record.text("question_id"), day or "", record.text("platform"), record.text("difficulty"))


def _in_window(label: Label, options: Options) -> bool:
    """Whether a contest's question is one of those asked for, or may be, since it has no date."""
    if any(options.get(key, value) != value for key, value in (("platform", label.platform), ("difficulty", label.difficulty))):
        return False
    return not label.date or options.get("after", "") <= label.date < options.get("before", "9999")


SOURCES: Final[dict[str, Source]] = {
    "livecodebench": Source(
        "LiveCodeBench's contest problems, by release, date, platform and difficulty",
        lambda record, options: livecodebench.question_of(record, public_will_do=options.get("tests") == "public"),
        _contest,
        {
            "paper": tuple(livecodebench.PAPER),
            "release": tuple(f"v{number}" for number in range(1, len(livecodebench.RELEASES) + 1)),
            "after": date,
            "before": date,
            "platform": ("leetcode", "codeforces", "atcoder"),
            "difficulty": ("easy", "medium", "hard"),
            "tests": ("all", "public"),
        },
        _in_window,
        errata.LIVECODEBENCH,
    ),
    "humaneval": Source("HumanEval: functions by docstring", lambda record, _: humaneval.question_of(record), _task),
    "humanevalplus": Source(
        "HumanEval+: the same with many more tests", lambda record, _: humaneval.question_of(record), _task
    ),
    "mbpp": Source(
        "MBPP: short functions by a sentence and three assertions, also its sanitised part",
        lambda record, _: mbpp.question_of(record),
        _mbpp_task,
        {"split": tuple(mbpp.SPLITS)},
        _in_mbpp_split,
    ),
    "mbppplus": Source("MBPP+: a part of them with many more tests", lambda record, _: mbpp.question_of(record), _mbpp_task),
    "azr": Source(
        "Absolute Zero's triplets and induction records",
        lambda record, _: triplets.azr_question(record),
        _nameless,
        on_hub=False,
    ),
    "cruxeval": Source(
        "CRUXEval: outputs of short functions",
        lambda record, _: triplets.cruxeval_question(record),
        lambda record: Label(record.text("id")),
    ),
    "jsonl": Source("Questions of your own, see below", lambda record, _: own.question_of(record), _nameless, on_hub=False),
}
"""By name."""
KEYS: Final = {name: {**source.keys, **COMMON} for name, source in SOURCES.items()}
"""What can be set for each."""
