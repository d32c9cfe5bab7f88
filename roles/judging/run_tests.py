"""Answers on the tests of a question: run, and told how many tests they pass.

Law: all tests must pass, and the first that fails names the verdict. It parses no answers and knows no roles.
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
"""Outcomes that a test may owe to those before it in its job."""
_LETTER_OF = {outcome: letter for letter, outcome in OUTCOME_LETTERS.items()}


@dataclass
class ProgramTrial:
    """One answer on all tests of its question."""

    question: Question
    rules: JudgingRules
    per_test: bool
    """Whether each test has the limits for itself. Then the first failure is the end, else all tests are run."""
    job: Job
    """The answer on all tests."""
    outcomes: list[Outcome] = field(default_factory=list)
    """What is decided, in order of the tests."""
    detail: str = ""
    """Why the first failed test failed."""
    executions: list[JobResult] = field(default_factory=list)
    alone: bool = False
    """Whether the next test is to be run alone."""

    @property
    def next(self) -> Job:
        """The answer on the tests that are not decided yet, or on the first of them."""
        start = len(self.outcomes)
        return self.job.model_copy(update={"inputs": self.job.inputs[start : start + 1 if self.alone else None]})

    def take(self, execution: JobResult) -> None:
        """Decide by what came of the next job, as far as that may be."""
        self.executions.append(execution)
        self.alone = False
        for place, run in enumerate(execution.runs):
            outcome = outcome_of(self.question, self.rules, self.job, self.question.pairs[len(self.outcomes)], run)
            if self.per_test and place and outcome in SHARED_LIMITS:
                self.alone = True
                return
            if outcome != "passed" and self.failure is None:
                self.detail = detail(run) if self.question.mode == "checks" else why(run)
            self.outcomes.append(outcome)
            if self.over:
                return

    @property
    def failure(self) -> Outcome | None:
        """The first, None as long as there is none."""
        return next((outcome for outcome in self.outcomes if outcome != "passed"), None)

    @property
    def over(self) -> bool:
        """Whether the verdict is known."""
        return len(self.outcomes) == len(self.job.inputs) or (self.per_test and self.failure is not None)

    @property
    def verdict(self) -> Verdict:
        """What was found."""
        return Verdict(
            outcome=self.failure or "passed",
            passed=self.outcomes.count("passed"),
            total=len(self.job.inputs),
            detail=self.detail,
            tests=outcome_letters(self.outcomes),
        )

    @property
    def said(self) -> str | None:
        """A digest of what the answer gave for all private inputs; None where a test was not run or gave nothing."""
        runs = [run for execution in self.executions for run in execution.runs]
        private = runs[len(self.question.public) :]
        if self.question.mode == "checks" or len(runs) != len(self.job.inputs) or any(run.status != "ok" for run in private):
            return None
        return hashlib.sha256("\0".join(run.value for run in private).encode()).hexdigest()

    @property
    def used(self) -> dict[str, float]:
        """What running it took."""
        return {
            "seconds": sum(one.seconds for one in self.executions),
            "cpu_seconds": sum(one.cpu_seconds for one in self.executions),
            "peak_mb": max(one.peak_mb for one in self.executions),
        }


async def run_programs(
    runner: Runner, question: Question, programs: Sequence[str], rules: JudgingRules, *, per_test: bool
) -> dict[str, ProgramTrial]:
    """Every program on all tests. Those that are left share a job, as long as no limit is hit.

    Where limits are per test, a test that hits one behind others is run again alone, and the tests after it go on together: an
    answer that hangs costs two limits at most, a quick one a single job.

    Raises:
        SandboxError: the sandbox failed.
    """
    trials = {program: ProgramTrial(question, rules, per_test, compose_job(question, program, rules)) for program in programs}
    while going := [trial for trial in trials.values() if not trial.over]:
        executions = await runner.run([trial.next for trial in going])
        # Many long values take a while to compare; in a thread, others are served meanwhile.
        await asyncio.to_thread(_take, going, executions)
    return trials


def _take(trials: Sequence[ProgramTrial], executions: Sequence[JobResult]) -> None:
    for trial, execution in zip(trials, executions, strict=True):
        trial.take(execution)


def outcome_letters(outcomes: Iterable[Outcome]) -> str:
    """Outcomes of tests as a verdict tells them."""
    return "".join(map(_LETTER_OF.__getitem__, outcomes))


def why(run: InputRun) -> str:
    """Why a run is not right: its detail, or what it gave instead."""
    return detail(run) if run.status != "ok" else one_line(f"gave {run.value}", 200)


def detail(run: InputRun) -> str:
    """Its detail, without the addresses that differ between equal runs."""
    return one_line(re.sub(r"0x[0-9a-f]{6,}", "0x…", run.detail), 200)
