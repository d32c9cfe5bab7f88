"""The verifier: judges attempts in the sandbox, and validates proposals there (`roles.judging.proposal_validator`).

Guarantees: expected outputs stay on the host, but for those in a benchmark's own checks; only programs, inputs and checks enter
the sandbox, and outputs are compared as values.
A failure of the infrastructure raises and never becomes a verdict.
Not responsible for: rewards.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from events.facts.errors import BadInput
from events.facts.values import (
    IOPair,
    JudgingRules,
    LabelSource,
    Outcome,
    Provenance,
    Question,
    QuestionId,
    Task,
    Verdict,
    count_passed,
)
from events.pure.answer_parsing import Malformed, parse_input, parse_output
from events.pure.evalplus_sanitizer import extract_program
from events.text.safe_text import one_line
from roles.judging.judging_rules import OUTCOME_OF_STATUS, compose_job
from roles.judging.proposal_validator import ProposalValidator, ReferenceProgram, RejectedProposal, ValidProposal
from roles.judging.run_tests import ProgramTrial, failure_detail, outcome_letters, run_programs
from roles.judging.vote import Outputs, Ties, Vote, count_votes, equal_outputs, outputs_of
from sandbox.compare import outputs_match
from sandbox.runner import InputRun, Job, JobResult, Runner

USAGE_FIELDS = ("seconds", "cpu_seconds", "peak_mb")
"""Resources that running an attempt takes, by the names of `JobResult`'s fields."""
MIN_AGREEING = 3
"""So many failed attempts must agree with each other before that casts doubt on the statement."""


@dataclass(frozen=True)
class JudgedAttempts:
    """Verdicts on attempts, in their order."""

    verdicts: list[Verdict]
    """One per attempt; equal attempts have equal verdicts."""
    usage: dict[str, list[float | None]]
    """By `USAGE_FIELDS`, a list with one number per attempt; None for an attempt that did not run."""
    output_digests: list[str | None]
    """For programs, `ProgramTrial.output_digest` of each attempt."""

    @property
    def agreeing(self) -> int:
        """Most failed attempts with equal outputs for all private inputs; 0 if below `MIN_AGREEING` or no more than passed."""
        judged = zip(self.verdicts, self.output_digests, strict=True)
        failed = [digest for verdict, digest in judged if digest and verdict.outcome != "passed"]
        most = max(Counter(failed).values(), default=0)
        passed = count_passed(self.verdicts)
        return most if most >= MIN_AGREEING and most > passed else 0


class LabelledAttempts(NamedTuple):
    """Attempts at a question whose outputs nobody has given."""

    judged: JudgedAttempts
    """Verdicts by the label; none is `passed` where there is no label."""
    vote: Vote
    truth: Outputs | None
    """Outputs of the reference program of the statement; None where it is not known."""

    @property
    def right(self) -> bool | None:
        """Whether the voted label equals the truth; None without either."""
        return equal_outputs(self.vote.label, self.truth) if self.vote.label and self.truth else None


@dataclass(frozen=True)
class Verifier:
    """Judges attempts and validates proposals."""

    runner: Runner
    pairs: int
    """Test cases of a proposal."""
    public_pairs: int
    """How many of them are public."""
    truth: ReferenceProgram | None = None
    rules: JudgingRules = "own"
    """Judging rules of questions that are not in `question_rules`."""
    question_rules: Mapping[QuestionId, JudgingRules] = field(default_factory=dict)
    """Questions that have judging rules of their own."""
    per_test: bool = False
    """Whether limits are those of each test, and not of all tests together."""

    def provenance_of(self, question: Question, labels: LabelSource = "question") -> Provenance:
        """The conditions under which attempts at a question are judged."""
        if labels != "question":
            return self.runner.provenance.model_copy(update={"labels": labels})
        return self.runner.provenance.model_copy(update={"rules": self.rules_of(question), "per_test": self.per_test})

    def rules_of(self, question: Question) -> JudgingRules:
        """The judging rules of a question; EvalPlus's apply to functions only."""
        rules = self.question_rules.get(question.id, self.rules) if self.question_rules else self.rules
        is_function = question.mode != "stdin" and "." not in question.entry
        return "own" if rules == "evalplus" and not is_function else rules

    async def judge(self, question: Question, task: Task, pair: int | None, texts: Sequence[str]) -> JudgedAttempts:
        """Judge completions; `pair` is the number of the test case, None for task `induction`, which is about all of them."""
        if task == "induction":
            return await self._judge_programs(question, texts)
        assert pair is not None, f"{task} is about one test case"
        expected = question.pairs[pair].output
        if task == "deduction":
            return await asyncio.to_thread(_judge_outputs, texts, expected)
        return await self._judge_inputs(question, expected, texts)

    async def judge_by_label(
        self,
        question: Question,
        texts: Sequence[str],
        labels: Literal["vote", "informed", "truth"],
        ties: Ties = "none",
        truth: Outputs | None = None,
        label: Outputs | None = None,
    ) -> LabelledAttempts:
        """Judge programs by the outputs that most of them have, that informed answers had, or by the truth.

        The outputs in the question do not matter. The truth is `truth`, or else the outputs of the reference program. Informed
        answers had `label`; None: they had none. All tests of a program share its limits.

        Raises:
            BadInput: the question's tests give no outputs that could be compared.
            SandboxError: the sandbox failed.
        """
        if question.mode != "function":
            raise BadInput(
                f"Question {question.id} is of mode {question.mode}, and only outputs of functions can be voted on; take"
                " questions of mode function, or a recipe whose labels are the questions' own."
            )
        parsed = await asyncio.to_thread(lambda: {text: extract_program(text, "own", question.entry) for text in texts})
        reference = self.truth(question.statement) if self.truth and truth is None else None
        programs = [answer for answer in dict.fromkeys(parsed.values()) if isinstance(answer, str)]
        jobs = {source: compose_job(question, source, "own") for source in (*programs, *([reference] if reference else []))}
        results = dict(zip(jobs, await self.runner.run([*jobs.values()]) if jobs else [], strict=True))
        outputs = await asyncio.to_thread(lambda: {source: outputs_of(result) for source, result in results.items()})
        truth = outputs[reference] if reference else truth
        answers = [parsed[text] for text in texts]
        vote = count_votes([outputs[answer] if isinstance(answer, str) else None for answer in answers], ties)
        label = {"vote": vote.label, "informed": label, "truth": truth}[labels]
        trials = {source: _labelled_trial(question, label, jobs[source], results[source]) for source in programs}
        return LabelledAttempts(_collect_verdicts(answers, trials), vote, truth)

    async def validate(self, text: str) -> ValidProposal | RejectedProposal:
        """Check whether a teacher's completion is a question; see `ProposalValidator.validate`."""
        return await ProposalValidator(self.runner, self.pairs, self.public_pairs, self.truth).validate(text)

    async def _judge_programs(self, question: Question, texts: Sequence[str]) -> JudgedAttempts:
        rules = self.rules_of(question)
        parsed = await asyncio.to_thread(
            lambda: {text: extract_program(text, rules, question.entry) for text in dict.fromkeys(texts)}
        )
        answers = [parsed[text] for text in texts]
        programs = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        trials = await run_programs(self.runner, question, programs, rules, per_test=self.per_test)
        judged = _collect_verdicts(answers, {source: (trial.verdict, trial.usage) for source, trial in trials.items()})
        digests = [trials[answer].output_digest if isinstance(answer, str) else None for answer in answers]
        return replace(judged, output_digests=digests)

    async def _judge_inputs(self, question: Question, expected: str, texts: Sequence[str]) -> JudgedAttempts:
        answers = [parse_input(text) for text in texts]
        inputs = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        jobs = [Job(source=question.program_with_context or "", inputs=(text,), entry=question.entry) for text in inputs]
        results = await self.runner.run(jobs) if jobs else []
        verdicts = await asyncio.to_thread(lambda: [_judge_run(result.runs[0], expected) for result in results])
        judged = {
            text: (verdict, {name: getattr(result, name) for name in USAGE_FIELDS})
            for text, verdict, result in zip(inputs, verdicts, results, strict=True)
        }
        return _collect_verdicts(answers, judged)


def _labelled_trial(question: Question, label: Outputs | None, job: Job, result: JobResult) -> tuple[Verdict, dict[str, float]]:
    """The verdict on a program by the label, and what running it took."""
    pairs = (
        question.pairs
        if label is None
        else [IOPair(input=p.input, output=o) for p, o in zip(question.pairs, label, strict=True)]
    )
    labelled = question.model_copy(update={"public": (), "private": tuple(pairs)})
    trial = ProgramTrial(labelled, "own", False, job)
    trial.add_result(result)
    if label is not None or any(run.status != "ok" for run in result.runs):
        return trial.verdict, trial.usage
    return Verdict(outcome="wrong_answer", passed=0, total=len(pairs), detail="there is no label", tests=""), trial.usage


def _collect_verdicts(
    answers: Sequence[str | Malformed], judged: Mapping[str, tuple[Verdict, dict[str, float] | None]]
) -> JudgedAttempts:
    """Verdicts on answers in their order; `judged` has that on each distinct one, and what running it took if it was run."""
    rows = [judged[answer] if isinstance(answer, str) else (_malformed_verdict(answer), None) for answer in answers]
    usage = {name: [None if used is None else round(used[name], 6) for _, used in rows] for name in USAGE_FIELDS}
    return JudgedAttempts([verdict for verdict, _ in rows], usage, [None] * len(rows))


def _malformed_verdict(answer: Malformed) -> Verdict:
    return Verdict(outcome="malformed", passed=0, total=1, detail=one_line(answer.reason, 200), tests="")


def _judge_outputs(texts: Sequence[str], expected: str) -> JudgedAttempts:
    answers = [parse_output(text) for text in texts]
    outputs = {answer for answer in answers if isinstance(answer, str)}
    return _collect_verdicts(answers, {output: (_judge_output(output, expected), None) for output in outputs})


def _judge_output(answer: str, expected: str) -> Verdict:
    return _single_test_verdict("passed" if outputs_match(expected, answer) else "wrong_answer")


def _judge_run(run: InputRun, expected: str) -> Verdict:
    if run.status != "ok":
        return _single_test_verdict(OUTCOME_OF_STATUS[run.status], failure_detail(run))
    return (
        _single_test_verdict("passed")
        if outputs_match(expected, run.value)
        else _single_test_verdict("wrong_answer", failure_detail(run))
    )


def _single_test_verdict(outcome: Outcome, reason: str = "") -> Verdict:
    return Verdict(outcome=outcome, passed=int(outcome == "passed"), total=1, detail=reason, tests=outcome_letters([outcome]))
