"""Runs programs on the tests of a question and derives their verdicts.

Guarantees: a program passes if all tests pass; the first test that fails gives the verdict's outcome.
Not responsible for: parsing completions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from events.facts.values import OUTCOME_LETTERS, JudgingRules, Outcome, Question, Verdict
from events.text.safe_text import one_line
from roles.judging.judging_rules import compose_job, outcome_of
from sandbox.runner import InputRun, Job, JobResult, Runner

SHARED_LIMITS: Final = ("time_limit", "memory_limit")
"""Outcomes that earlier tests of the same job may have caused."""
_LETTER_OF = {outcome: letter for letter, outcome in OUTCOME_LETTERS.items()}


@dataclass
class ProgramTrial:
    """One program on all tests of its question."""

    question: Question
    rules: JudgingRules
    per_test: bool
    """Whether the limits are those of each test; then the first failure ends the trial. Else all tests run in one job."""
    job: Job
    outcomes: list[Outcome] = field(default_factory=list)
    """Of the tests that are decided, in their order."""
    detail: str = ""
    """Why the first failed test failed."""
    results: list[JobResult] = field(default_factory=list)
    next_alone: bool = False
    """Whether the next test must run alone."""

    @property
    def next_job(self) -> Job:
        """The program with the undecided tests, or with the first of them."""
        start = len(self.outcomes)
        return self.job.model_copy(update={"inputs": self.job.inputs[start : start + 1 if self.next_alone else None]})

    def add_result(self, result: JobResult) -> None:
        """Decide tests by the result of `next_job`, until one must run again alone."""
        self.results.append(result)
        self.next_alone = False
        for number, run in enumerate(result.runs):
            outcome = outcome_of(self.question, self.rules, self.job, self.question.pairs[len(self.outcomes)], run)
            if self.per_test and number and outcome in SHARED_LIMITS:
                self.next_alone = True
                return
            if outcome != "passed" and self.failure is None:
                self.detail = run_detail(run) if self.question.mode == "checks" else failure_detail(run)
            self.outcomes.append(outcome)
            if self.over:
                return

    @property
    def failure(self) -> Outcome | None:
        """The first outcome that is not `passed`; None while there is none."""
        return next((outcome for outcome in self.outcomes if outcome != "passed"), None)

    @property
    def over(self) -> bool:
        """Whether the verdict is known."""
        return len(self.outcomes) == len(self.job.inputs) or (self.per_test and self.failure is not None)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the tests that are decided."""
        return Verdict(
            outcome=self.failure or "passed",
            passed=self.outcomes.count("passed"),
            total=len(self.job.inputs),
            detail=self.detail,
            tests=outcome_letters(self.outcomes),
        )

    @property
    def output_digest(self) -> str | None:
        """SHA-256 of the outputs for all private inputs; None if a test was not run or has no output."""
        runs = [run for result in self.results for run in result.runs]
        private = runs[len(self.question.public) :]
        if self.question.mode == "checks" or len(runs) != len(self.job.inputs) or any(run.status != "ok" for run in private):
            return None
        return hashlib.sha256("\0".join(run.value for run in private).encode()).hexdigest()

    @property
    def usage(self) -> dict[str, float]:
        """Wall-clock and CPU seconds summed over its jobs, and the largest peak memory in MiB."""
        return {
            "seconds": sum(result.seconds for result in self.results),
            "cpu_seconds": sum(result.cpu_seconds for result in self.results),
            "peak_mb": max(result.peak_mb for result in self.results),
        }


async def run_programs(
    runner: Runner, question: Question, programs: Sequence[str], rules: JudgingRules, *, per_test: bool
) -> dict[str, ProgramTrial]:
    """Run every program on all tests; a trial for each program.

    Tests share a job. Where limits are per test, a test that hits one after others in its job is run again alone, and those
    after it go on together: a program that hangs costs at most twice the limit, a quick one a single job.

    Raises:
        SandboxError: the sandbox failed.
    """
    trials = {program: ProgramTrial(question, rules, per_test, compose_job(question, program, rules)) for program in programs}
    while running := [trial for trial in trials.values() if not trial.over]:
        results = await runner.run([trial.next_job for trial in running])
        # In a thread, since many long values take a while to compare.
        await asyncio.to_thread(_add_results, running, results)
    return trials


def _add_results(trials: Sequence[ProgramTrial], results: Sequence[JobResult]) -> None:
    for trial, result in zip(trials, results, strict=True):
        trial.add_result(result)


def outcome_letters(outcomes: Iterable[Outcome]) -> str:
    """Outcomes of tests as the letters of `Verdict.tests`."""
    return "".join(map(_LETTER_OF.__getitem__, outcomes))


def failure_detail(run: InputRun) -> str:
    """Why a run failed its test: its detail, or its wrong output."""
    return run_detail(run) if run.status != "ok" else one_line(f"gave {run.value}", 200)


def run_detail(run: InputRun) -> str:
    """The detail of a run without memory addresses, which differ between equal runs."""
    return one_line(re.sub(r"0x[0-9a-f]{6,}", "0x…", run.detail), 200)
