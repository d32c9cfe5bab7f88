"""`make bench-verdicts`: compares our verdicts with those of the benchmarks, into a section of `docs/verdicts.md`.

Every program runs in the sandbox, those of the benchmarks, too. Every disagreement is listed, with a cause that is written
here by hand, or marked as unexplained.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks import section
from benchmarks.command import run_main
from benchmarks.mutants import mutants
from benchmarks.rounds import table
from benchmarks.suites import ACCEPTED, SUITES, Suite, SuiteCase, records
from events.facts.values import JudgingRules, Outcome
from roles.judging.run_tests import ProgramTrial, run_programs
from roles.questions.fields import Record
from roles.questions.livecodebench import question_of
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, Limits, Runner

DOCUMENT = Path("docs/verdicts.md")
ROOMY = Limits(wall_seconds=180, cpu_seconds=60, memory_mb=4096, output_kb=1024)
"""For references: a few of the plus versions take long, and much memory, on a single input."""
SHORT = Limits(wall_seconds=15, cpu_seconds=2, memory_mb=512, output_kb=1024)
"""For mutants, of which some never end; by the clock there is time for a busy machine."""
OFFICIAL = Limits(wall_seconds=30, cpu_seconds=6, memory_mb=1024, output_kb=4096)
"""LiveCodeBench's 6 s a test, of the processor and not by the clock, lest a busy machine decide. It has no limit on memory."""
QUICK = 1.0
"""Seconds; a reference that takes longer on its tests gets no mutants."""
OUTCOMES: dict[int | None, tuple[Outcome, ...]] = {
    None: ("passed",),
    -1: ("time_limit",),
    -2: ("wrong_answer",),
    -3: ("time_limit",),
    -4: ("runtime_error", "syntax_error", "memory_limit"),
    -5: ("runtime_error", "memory_limit"),
}
"""LiveCodeBench's error codes as we call them."""
_HELPER = "the mistake is in a helper that the prompt brings along; HumanEval's test uses it, HumanEval+ has the values"
CAUSES = {
    "HumanEval+ in HumanEval's layout: HumanEval/32": "the benchmark's check unpacks a number; our reader calls what it meant",
    "MBPP+: Mbpp/120": "the benchmark's assertions use `math` without importing it",
    "HumanEval+: HumanEval/38, mutant": _HELPER,
    "HumanEval+: HumanEval/50, mutant": _HELPER,
}
"""Why a disagreement is no mistake of ours, by its place without the mutant's number."""


class Disagreement(NamedTuple):
    """One program with two verdicts."""

    place: str
    ours: str
    theirs: str

    @property
    def cause(self) -> str:
        """Why it is no mistake of ours; empty if unexplained."""
        return CAUSES.get(self.place.rstrip("0123456789 ") if "mutant" in self.place else self.place, "")

    def row(self) -> tuple[str, ...]:
        """The same as a row of a table."""
        return (*self, self.cause or "**not explained**")


class Comparison(NamedTuple):
    """What a comparison found: how many programs had which pair of verdicts (ours, theirs), and what must not be."""

    counts: Counter[tuple[bool, bool]]
    disagreements: list[Disagreement]


async def judge_both(
    runner: Runner, case: SuiteCase, programs: Sequence[str], *, per_test: bool
) -> list[tuple[ProgramTrial, bool]]:
    """For each program, our trial, and whether the benchmark's own test accepts it."""
    scripts = [Job(source=case.script(program), inputs=("",), mode="stdin") for program in programs]
    trials, executions = await asyncio.gather(
        run_programs(runner, case.question, programs, "evalplus", per_test=per_test), runner.run(scripts)
    )
    accepted = [execution.runs[0].value.endswith(f"{ACCEPTED}\n") for execution in executions]
    return [(trials[program], own) for program, own in zip(programs, accepted, strict=True)]


async def compare_references(runner: Runner, suite: Suite, cases: Sequence[SuiteCase]) -> tuple[Comparison, list[SuiteCase]]:
    """Whether every reference passes, and those cases where it is quick about it."""
    comparison, quick = Comparison(Counter(), []), []
    judged = (judge_both(runner, case, [_reference(case)], per_test=True) for case in cases)
    for case, ((trial, accepted),) in zip(cases, await asyncio.gather(*judged), strict=True):
        passed = trial.verdict.outcome == "passed"
        comparison.counts[passed, accepted] += 1
        if not (passed and accepted):
            where = f"{suite.name}: {case.name}"
            comparison.disagreements.append(Disagreement(where, trial.verdict.outcome, "accepts" if accepted else "rejects"))
        elif trial.usage["seconds"] <= QUICK:
            quick.append(case)
    return comparison, quick


async def compare_mutants(runner: Runner, suite: Suite, cases: Sequence[SuiteCase], count: int, seed: int) -> Comparison:
    """Whether every mutant that the benchmark's own test rejects fails, on `count` mutants of each reference."""
    comparison = Comparison(Counter(), [])
    judged = (judge_both(runner, case, _sample_mutants(suite, case, count, seed), per_test=False) for case in cases)
    for case, results in zip(cases, await asyncio.gather(*judged), strict=True):
        for number, (trial, accepted) in enumerate(results):
            passed = trial.verdict.outcome == "passed"
            comparison.counts[passed, accepted] += 1
            if passed and not accepted:
                where = f"{suite.name}: {case.name}, mutant {number}"
                comparison.disagreements.append(Disagreement(where, "passed", "rejects"))
    return comparison


def _reference(case: SuiteCase) -> str:
    assert case.question.program is not None, "a benchmark with solutions has a solution"
    return case.question.program


def _sample_mutants(suite: Suite, case: SuiteCase, count: int, seed: int) -> list[str]:
    every = mutants(_reference(case))
    return random.Random(f"{seed}/{suite.name}/{case.name}").sample(every, min(count, len(every)))  # noqa: S311


async def compare_graded(runner: Runner, data: Path, rules: JudgingRules, most: int | None = None) -> Comparison:
    """Whether solutions that LiveCodeBench's official checker has graded get the same verdict, by outcome and tests passed.

    All of them, or as many as `most`, drawn by a seed.
    """
    questions = {record["question_id"]: question_of(Record(record)) for record in records(data / "lcb/full_records.jsonl")}
    rows = list(records(data / "lcb/verdict_pairs.jsonl"))
    rows = sorted(rows if most is None else random.Random(1).sample(rows, most), key=lambda row: str(row["question_id"]))  # noqa: S311
    groups = {name: list(group) for name, group in groupby(rows, lambda row: str(row["question_id"]))}
    comparison = Comparison(Counter(), [])
    programs = {name: [row["solution"] for row in group] for name, group in groups.items()}
    judged = (run_programs(runner, questions[name], programs[name], rules, per_test=True) for name in groups)
    for group, by_program in zip(groups.values(), await asyncio.gather(*judged), strict=True):
        for row in group:
            verdict = by_program[row["solution"]].verdict
            comparison.counts[verdict.outcome == "passed", row["official_checker_here"]] += 1
            before = sum(result is True for result in row["results"])
            if verdict.outcome not in OUTCOMES[row["error_code"]] or verdict.passed != before:
                place, ours = f"LiveCodeBench, rules {rules}: {row['id']}", f"{verdict.outcome} after {verdict.passed}"
                theirs = f"{row['error_code'] or 'passed'} after {before} tests"
                comparison.disagreements.append(Disagreement(place, ours, theirs))
    return comparison


@asynccontextmanager
async def _runner(limits: Limits) -> AsyncIterator[DockerRunner]:
    runner = DockerRunner(limits, run="verdicts")
    try:
        yield runner
    finally:
        await runner.close()


async def measure(data: Path, count: int, seed: int) -> list[str]:
    """Measure everything; the lines of the section."""
    disagreements: list[Disagreement] = []
    rows: list[Sequence[str]] = []
    quick: list[tuple[Suite, list[SuiteCase]]] = []
    async with _runner(ROOMY) as whole:
        for suite in SUITES:
            with section.step(f"references of {suite.name}"):
                comparison, able = await compare_references(whole, suite, suite.cases(data))
            quick.append((suite, able))
            disagreements += comparison.disagreements
            counts = comparison.counts
            passed, accepted = (sum(n for key, n in counts.items() if key[place]) for place in (0, 1))
            rows.append((suite.name, str(counts.total()), str(passed), str(accepted), str(len(able))))
    lines = [*table(["benchmark", "questions", "references that pass ours", "its own", "quick ones"], rows), ""]
    rows = []
    async with _runner(SHORT) as short:
        for suite, able in quick:
            with section.step(f"mutants of {suite.name}"):
                comparison = await compare_mutants(short, suite, able, count, seed)
            disagreements += comparison.disagreements
            counts = comparison.counts
            numbers = (counts[False, False], counts[True, False], counts[True, True], counts[False, True])
            rows.append((suite.name, str(counts.total()), *map(str, numbers)))
    heads = ["benchmark", "mutants", "rejected by both", "by its own test only", "accepted by both", "rejected by ours only"]
    lines += [*table(heads, rows), ""]
    rows = []
    async with _runner(OFFICIAL) as official:
        for rules in ("own", "livecodebench"):
            with section.step(f"LiveCodeBench's graded solutions, rules {rules}"):
                comparison = await compare_graded(official, data, rules)
            disagreements += comparison.disagreements
            counts = comparison.counts
            numbers = (counts[True, True], counts[False, False], counts[True, False], counts[False, True])
            rows.append((rules, str(counts.total()), *map(str, numbers), str(len(comparison.disagreements))))
    sums = ["both pass", "both fail", "only ours passes", "only theirs passes", "differ in outcome or tests"]
    lines += [*table(["rules", "solutions", *sums], rows), ""]
    if not disagreements:
        return [*lines, "No disagreement."]
    return [*lines, *table(["disagreement", "ours", "theirs", "cause"], [each.row() for each in disagreements])]


def main(
    data: Annotated[Path, typer.Option(help="Folder with the records of the benchmarks.")] = Path("../shared/data"),
    count: Annotated[int, typer.Option(help="Mutants of each quick reference.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Of the draw of mutants.")] = 0,
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = DOCUMENT,
) -> None:
    """Judge references, mutants and graded solutions of HumanEval(+), MBPP(+) and LiveCodeBench. Some minutes."""
    began = time.monotonic()
    machine = section.machine(("docker",))
    lines = asyncio.run(measure(data, count, seed))
    took = f"{count} mutants of each quick reference, seed {seed}; {time.monotonic() - began:.0f} s in all."
    section.write(document, "verdicts", "Agreement", [f"{machine}; {took}", "", *lines])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    run_main(main)
