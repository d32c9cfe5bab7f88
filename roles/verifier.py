"""The verifier: judges attempts and validates proposals, in the sandbox.

Guarantees: expected outputs stay on the host, but for those in a benchmark's own checks; only programs, inputs and checks enter
the sandbox, and outputs are compared as values.
A failure of the infrastructure raises and never becomes a verdict.
Not responsible for: rewards.
"""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

from events.facts.errors import BadInput
from events.facts.types import Reason
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
from events.pure.answer_parsing import Malformed, Proposal, parse_input, parse_output, parse_proposal
from events.pure.evalplus_sanitizer import extract_program
from events.pure.literal import NotLiteral, outline
from events.text.safe_text import one_line
from roles.judging.degenerate import degenerate_reason, text_objection
from roles.judging.judging_rules import OUTCOME_OF_STATUS, compose_job
from roles.judging.needed_code import needed_source
from roles.judging.program_operations import operations, replace_operation
from roles.judging.run_tests import ProgramTrial, failure_detail, outcome_letters, run_detail, run_programs
from roles.judging.safety import makes_sets, unsafe_reason
from roles.judging.syntax_tree import parse_source, unparse_objection
from roles.judging.vote import Outputs, Ties, Vote, count_votes, equal_outputs, outputs_of
from sandbox.compare import canonical_arguments, canonical_text, outputs_match
from sandbox.runner import InputRun, Job, JobResult, Runner

USAGE_FIELDS = ("seconds", "cpu_seconds", "peak_mb")
"""Resources that running an attempt takes, by the names of `JobResult`'s fields."""
MIN_AGREEING = 3
"""So many failed attempts must agree with each other before that casts doubt on the statement."""
RERUN_HASH_SEEDS = (1, 2, 3, 4)
"""Hash seeds of the workers on which proposals run again. One is enough for a program without sets; two strings in a set keep
their order under half of all seeds."""
MAX_OPERATIONS = 100
"""Most operations of a proposed program; it is run again without each of them."""
_INTERRUPT = ast.parse("raise KeyboardInterrupt").body[0]


class ReferenceProgram(Protocol):
    """Looks up the reference program of a statement, where questions come from a generator that knows it."""

    def __call__(self, statement: str, /) -> str | None:
        """The reference program; None if there is none."""
        ...


class RejectedProposal(NamedTuple):
    """A proposal that cannot become a question, and why."""

    reason: Reason
    detail: str
    question: Question | None = None


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


class ValidProposal(NamedTuple):
    """A proposal that is a question."""

    question: Question
    aligned: bool | None
    """Whether the program equals the reference program of the statement; None without `Verifier.truth`."""


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
        judged = _collect_verdicts(
            [trials[answer] if isinstance(answer, str) else (_malformed_verdict(answer), None) for answer in answers]
        )
        return LabelledAttempts(judged, vote, truth)

    async def validate(self, text: str) -> ValidProposal | RejectedProposal:
        """Check whether a teacher's completion is a question: well-formed, safe, reproducible, not degenerate.

        Every chosen input also runs alone, in a new process on a worker with another hash seed and other addresses, and all of
        them run there in reverse order: a program whose output depends on any of that is rejected as nondeterministic.

        Raises:
            SandboxError: the sandbox failed.
        """
        # In threads, since a hostile proposal may take long to parse and to compare.
        checked = await asyncio.to_thread(_check_text, text, self.pairs)
        if isinstance(checked, RejectedProposal):
            return checked
        proposal, tree = checked
        (first,) = await self.runner.run([Job(source=proposal.program, inputs=proposal.inputs)])
        chosen = chosen_inputs(first.runs, self.pairs)
        if len(chosen) < self.pairs:
            failed = next(run for run in first.runs if run.status != "ok")
            return RejectedProposal("broken", one_line(f"{failed.status}: {run_detail(failed)}", 200))
        # Further runs are without the inputs that failed: one that hangs would take the time of the others.
        inputs, runs = tuple(proposal.inputs[number] for number in chosen), [first.runs[number] for number in chosen]
        proposal = replace(proposal, inputs=inputs)
        seeds = RERUN_HASH_SEEDS if makes_sets(tree) else RERUN_HASH_SEEDS[:1]
        # Jobs of one hash seed are adjacent, since a worker takes adjacent jobs of its seed at once.
        order = sorted(range(len(inputs)), key=lambda number: number % len(seeds))
        jobs = [(inputs[::-1], seeds[0])] + [((inputs[number],), seeds[number % len(seeds)]) for number in order]
        backwards, *alone = await self.runner.run(
            [Job(source=proposal.program, inputs=job_inputs, hash_seed=seed) for job_inputs, seed in jobs]
        )
        reruns = {
            "in another order": backwards.runs[::-1],
            "alone": [alone[order.index(number)].runs[0] for number in range(len(inputs))],
        }
        question = await asyncio.to_thread(self._check_outputs, proposal, tree, runs, reruns)
        return question if isinstance(question, RejectedProposal) else await self._check_operations(question, tree, runs)

    def _check_outputs(
        self, proposal: Proposal, tree: ast.Module, first: Sequence[InputRun], reruns: Mapping[str, Sequence[InputRun]]
    ) -> Question | RejectedProposal:
        """The question of a proposal, unless its outputs differ between runs or nothing could be learned from it."""
        try:
            values = [canonical_text(outline(run.value)) for run in first]
        except NotLiteral:
            return RejectedProposal("unsafe", "an output is not a value")
        for how, runs in reruns.items():
            if any(not _gave_value(run, value) for run, value in zip(runs, values, strict=True)):
                return RejectedProposal(
                    "nondeterministic", f"an input gave another output {how}, in a fresh process with another hash seed"
                )
        question = self._question(proposal.message, proposal.program, proposal.inputs, first)
        if max(Counter(values).values()) > max(1, self.pairs - 2):
            return RejectedProposal("degenerate", "the outputs hardly differ", question)
        reason = degenerate_reason(question, tree)
        return question if reason is None else RejectedProposal("degenerate", reason, question)

    async def _check_operations(
        self, question: Question, tree: ast.Module, first: Sequence[InputRun]
    ) -> ValidProposal | RejectedProposal:
        """Reject a program with an operation that has no effect, and compare it with the reference program."""
        values = tuple(run.value for run in first)
        reference = self.truth(question.statement) if self.truth else None
        parts = operations(tree, question.entry)
        if len(parts) > MAX_OPERATIONS:
            return RejectedProposal(
                "degenerate", f"the program has more than {MAX_OPERATIONS} operations to be tried without", question
            )
        variants = await asyncio.to_thread(lambda: [replace_operation(tree, part, ast.Pass()) for part in parts])
        outputs = await self._run_all(question, variants + ([reference] if reference is not None else []))
        without, reference_values = (outputs[:-1], outputs[-1]) if reference is not None else (outputs, None)
        unneeded = [part for part, other in zip(parts, without, strict=True) if other == values]
        # An unneeded operation that no input reaches is a guard and may stay; one that is reached is without effect.
        interrupted = await self._run_all(question, [replace_operation(tree, part, _INTERRUPT) for part in unneeded])
        if any(other != values for other in interrupted):
            return RejectedProposal("degenerate", "an operation is without effect", question)
        return ValidProposal(question, None if self.truth is None else reference_values == values)

    async def _run_all(self, question: Question, sources: Sequence[str]) -> list[tuple[str, ...]]:
        inputs = tuple(pair.input for pair in question.pairs)
        results = await self.runner.run([Job(source=source, inputs=inputs) for source in sources]) if sources else []
        return [_output_values(result) for result in results]

    def _question(self, statement: str, program: str, inputs: Sequence[str], runs: Sequence[InputRun]) -> Question:
        pairs = tuple(IOPair(input=text, output=run.value) for text, run in zip(inputs, runs, strict=True))
        cut = self.public_pairs
        return Question(statement=statement, program=program, public=pairs[:cut], private=pairs[cut:])

    async def _judge_programs(self, question: Question, texts: Sequence[str]) -> JudgedAttempts:
        rules = self.rules_of(question)
        parsed = await asyncio.to_thread(
            lambda: {text: extract_program(text, rules, question.entry) for text in dict.fromkeys(texts)}
        )
        answers = [parsed[text] for text in texts]
        programs = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        trials = await run_programs(self.runner, question, programs, rules, per_test=self.per_test)
        judged = _collect_verdicts(
            [
                (trials[answer].verdict, trials[answer].usage)
                if isinstance(answer, str)
                else (_malformed_verdict(answer), None)
                for answer in answers
            ]
        )
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
        return _collect_verdicts(
            [judged[answer] if isinstance(answer, str) else (_malformed_verdict(answer), None) for answer in answers]
        )


def _check_text(text: str, pairs: int) -> tuple[Proposal, ast.Module] | RejectedProposal:
    """A proposal and the syntax tree of its program, unless it must be rejected without running it."""
    proposal = parse_proposal(text, pairs)
    if isinstance(proposal, Malformed):
        return RejectedProposal("malformed", proposal.reason)
    tree = parse_source(proposal.program)
    if tree is None:
        return RejectedProposal("broken", "the program does not parse")
    if (needed := needed_source(proposal.program, tree, "f")) != proposal.program:
        proposal, tree = replace(proposal, program=needed), ast.parse(needed)
    if (why := unparse_objection(tree) or unsafe_reason(tree)) is not None:
        return RejectedProposal("unsafe", why)
    if (why := text_objection(proposal.message, proposal.program, proposal.inputs)) is not None:
        return RejectedProposal("degenerate", why)
    distinct: dict[str, str] = {}
    for arguments in proposal.inputs:
        distinct.setdefault(canonical_arguments(arguments), arguments)
    if len(distinct) < pairs:
        return RejectedProposal("degenerate", "an input is repeated")
    return replace(proposal, inputs=tuple(distinct.values())), tree


def chosen_inputs(runs: Sequence[InputRun], count: int) -> list[int]:
    """Numbers of `count` inputs that ran, in order: the first ones, of which as few as possible have the same output."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int]] = []
    for number, run in enumerate(runs):
        if run.status == "ok":
            ranked.append((seen[run.value], number))
            seen[run.value] += 1
    return sorted(number for _, number in sorted(ranked)[:count])


def _output_values(result: JobResult) -> tuple[str, ...]:
    return tuple(run.value if run.status == "ok" else f"<{run.status}>" for run in result.runs)


def _gave_value(run: InputRun, value: str) -> bool:
    """Whether the output of a run has this canonical text."""
    try:
        return run.status == "ok" and canonical_text(outline(run.value)) == value
    except NotLiteral:
        return False


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


def _collect_verdicts(judged: Sequence[tuple[Verdict, dict[str, float] | None]]) -> JudgedAttempts:
    usage = {name: [None if used is None else round(used[name], 6) for _, used in judged] for name in USAGE_FIELDS}
    return JudgedAttempts([verdict for verdict, _ in judged], usage, [None] * len(judged))


def _malformed_verdict(answer: Malformed) -> Verdict:
    return Verdict(outcome="malformed", passed=0, total=1, detail=one_line(answer.reason, 200), tests="")


def _judge_outputs(texts: Sequence[str], expected: str) -> JudgedAttempts:
    return _collect_verdicts([(_judge_output(parse_output(text), expected), None) for text in texts])


def _judge_output(answer: str | Malformed, expected: str) -> Verdict:
    if isinstance(answer, Malformed):
        return _malformed_verdict(answer)
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
