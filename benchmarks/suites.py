"""Coding benchmarks with reference solutions, each question beside the benchmark's own test as a plain script."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.facts.values import Question
from roles.questions import humaneval, mbpp
from roles.questions.fields import Record

ACCEPTED = "accepted"
"""What a script prints when the benchmark's own test accepts the program in it."""
NUMPY = """
import sys, types
def _allclose(got, expected, rtol, atol):
    if hasattr(got, "__len__") and hasattr(expected, "__len__") and not isinstance(got, (str, dict, set)):
        if len(got) != len(expected):
            raise ValueError("operands could not be broadcast together")
        return all(_allclose(one, two, rtol, atol) for one, two in zip(got, expected))
    if hasattr(expected, "__len__"):
        return all(_allclose(got, two, rtol, atol) for two in expected)
    return got == expected or bool(abs(got - expected) <= atol + rtol * abs(expected))
sys.modules["numpy"] = types.ModuleType("numpy")
sys.modules["numpy"].__dict__.update(allclose=_allclose, ndarray=type("ndarray", (), {}), float64=float, float32=float)
"""
"""Stands for numpy, which the sandbox does not have: the tests of HumanEval+ ask for these of its names and no others."""


@dataclass(frozen=True)
class SuiteCase:
    """One question of a benchmark."""

    name: str
    question: Question
    test: str
    """Code that follows a program and raises where the benchmark rejects it."""

    def script(self, program: str) -> str:
        """A program under the benchmark's own test; it prints `ACCEPTED` at its end if that accepts it."""
        return f"{program}\n\n{self.test}\nprint({ACCEPTED!r})\n"


@dataclass(frozen=True)
class Suite:
    """One benchmark in one layout."""

    name: str
    file: str
    """Below the folder with the records."""
    read: Callable[[Record], Question]
    test: Callable[[dict[str, Any]], str]

    def cases(self, data: Path) -> list[SuiteCase]:
        """Its questions in the order of the file."""
        rows = records(data / self.file)
        return [SuiteCase(str(row["task_id"]), self.read(Record(row)), self.test(row)) for row in rows]


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file: JSON, or JSON lines, which may be compressed."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    yield from json.loads(text) if path.suffix == ".json" else map(json.loads, filter(str.strip, text.split("\n")))


def _check(record: dict[str, Any]) -> str:
    return f"{record['test']}\ncheck({record['entry_point']})"


def _assertions(record: dict[str, Any]) -> str:
    # Set up after the program, whose classes it uses.
    return "\n".join([*record.get("test_imports", []), record.get("test_setup_code", ""), *record["test_list"]])


SUITES = (
    Suite("HumanEval", "humaneval/HumanEval.jsonl", humaneval.question_of, _check),
    Suite("HumanEval+", "humaneval/HumanEvalPlus.jsonl.gz", humaneval.question_of, _check),
    Suite(
        "HumanEval+ in HumanEval's layout",
        "humaneval/HumanEvalPlus-OriginFmt.jsonl.gz",
        humaneval.question_of,
        lambda record: NUMPY + _check(record),
    ),
    Suite("MBPP", "mbpp/mbpp.jsonl", mbpp.question_of, _assertions),
    Suite("MBPP, sanitized", "mbpp/sanitized-mbpp.json", mbpp.question_of, _assertions),
    Suite("MBPP+", "mbpp/MbppPlus.jsonl", mbpp.question_of, lambda record: str(record["assertion"])),
)
"""All of them. The own test of the native HumanEval+ and of MBPP+ is that of their parents, which they contain."""
