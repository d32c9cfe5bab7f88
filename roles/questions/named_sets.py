"""The named question sets: their options, and how their records become questions.

A new benchmark is one row of `SOURCES`. No file is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, NamedTuple

from events.facts.values import JudgingRules, Question
from roles.questions import errata, humaneval, livecodebench, mbpp, own, triplets
from roles.questions.fields import FieldError, Record
from roles.questions.question_set import Split
from roles.questions.spec import Spec, Values, parse_setting

Options = Mapping[str, str]


class RecordLabel(NamedTuple):
    """What a benchmark says about a record, apart from its tests."""

    name: str
    """Its name in the benchmark; empty where it has none."""
    date: str = ""
    """The date of the contest, such as 2024-08-01."""
    platform: str = ""
    difficulty: str = ""


@dataclass(frozen=True)
class BenchmarkSource:
    """A named question set."""

    about: str
    question: Callable[[Record, Options], Question]
    """Turns a record into a question."""
    label: Callable[[Record], RecordLabel]
    keys: Mapping[str, Values] = field(default_factory=dict)
    """Its options, besides `COMMON`, and their values."""
    admits: Callable[[RecordLabel, Options], bool] = lambda label, options: True
    """Whether a record was asked for."""
    errata: Mapping[str, str] = field(default_factory=dict)
    """Reasons why records cannot be judged, by their names."""
    on_hub: bool = True
    """Whether it can be fetched; otherwise a file must be named."""
    rules: Callable[[Record], JudgingRules] = lambda record: "own"
    """By which rules the benchmark judges answers to a record."""


COMMON: Final[dict[str, Values]] = {"mode": ("function", "stdin", "checks"), "limit": int}
"""Options of every named set."""
ERRATA: Final[dict[str, Values]] = {"errata": ("drop", "keep")}
"""Option of sets with records that cannot be judged."""


def _task(record: Record) -> RecordLabel:
    return RecordLabel(record.text("task_id"))


def _by_livecodebench(record: Record) -> JudgingRules:
    return "livecodebench"


def _by_evalplus(record: Record) -> JudgingRules:
    return "evalplus"


def _nameless(record: Record) -> RecordLabel:
    return RecordLabel("")


def _mbpp_task(record: Record) -> RecordLabel:
    return RecordLabel(f"Mbpp/{mbpp.number_of(record)}")


def _in_mbpp_split(label: RecordLabel, options: Options) -> bool:
    first, last = mbpp.SPLITS[options.get("split", "all")]
    return first <= int(label.name.removeprefix("Mbpp/")) <= last


def _contest(record: Record) -> RecordLabel:
    day = record.values.get("contest_date")
    if day is not None:
        day = record.text("contest_date")[:10]
        try:
            day = date.fromisoformat(day).isoformat()
        except ValueError as error:
            raise FieldError("contest_date", "expected a date such as 2024-08-01T00:00:00, or null") from error
    return RecordLabel(record.text("question_id"), day or "", record.text("platform"), record.text("difficulty"))


def _in_window(label: RecordLabel, options: Options) -> bool:
    """Whether a contest's question is one of those asked for, or may be, since it has no date."""
    if any(options.get(key, value) != value for key, value in (("platform", label.platform), ("difficulty", label.difficulty))):
        return False
    return not label.date or options.get("after", "") <= label.date < options.get("before", "9999")


SOURCES: Final[dict[str, BenchmarkSource]] = {
    "livecodebench": BenchmarkSource(
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
            **ERRATA,
        },
        _in_window,
        errata.LIVECODEBENCH,
        rules=_by_livecodebench,
    ),
    "humaneval": BenchmarkSource(
        "HumanEval: functions by docstring", lambda record, _: humaneval.question_of(record), _task, rules=_by_evalplus
    ),
    "humanevalplus": BenchmarkSource(
        "HumanEval+: the same with many more tests", lambda record, _: humaneval.question_of(record), _task, rules=_by_evalplus
    ),
    "mbpp": BenchmarkSource(
        "MBPP: short functions by a sentence and three assertions, also its sanitised part",
        lambda record, _: mbpp.question_of(record),
        _mbpp_task,
        {"split": tuple(mbpp.SPLITS)},
        _in_mbpp_split,
        rules=_by_evalplus,
    ),
    "mbppplus": BenchmarkSource(
        "MBPP+: a part of them with many more tests", lambda record, _: mbpp.question_of(record), _mbpp_task, rules=_by_evalplus
    ),
    "azr": BenchmarkSource(
        "Absolute Zero's triplets and induction records",
        lambda record, _: triplets.azr_question(record),
        _nameless,
        ERRATA,
        on_hub=False,
    ),
    "cruxeval": BenchmarkSource(
        "CRUXEval: outputs of short functions",
        lambda record, _: triplets.cruxeval_question(record),
        lambda record: RecordLabel(record.text("id")),
        ERRATA,
    ),
    "jsonl": BenchmarkSource(
        "Questions of your own, as docs/questions.md says",
        lambda record, _: own.question_of(record),
        _nameless,
        on_hub=False,
        rules=own.rules_of,
    ),
}
"""Named question sets."""
KEYS: Final = {name: {**source.keys, **COMMON} for name, source in SOURCES.items()}
"""All options of each named set, with their values."""


def parse_spec(text: str, split: Split) -> Spec:
    """Parse a setting, whose use chooses among MBPP's splits unless it does; BadInput for an unknown set, option or value."""
    spec = parse_setting(text, KEYS)
    if "split" not in KEYS[spec.name] or "split" in spec.options:
        return spec
    return replace(spec, options={**spec.options, "split": "train" if split in ("goalposts", "documents") else split})
