"""The verifier: judges answers and examines proposals, in the sandbox.

Law: expected answers stay on this side; only programs and inputs enter the sandbox, and what comes out is compared as values.
An infrastructure failure raises and never becomes a verdict. It gives no rewards.
"""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from events.facts.types import Reason
from events.facts.values import IOPair, JudgingRules, Outcome, Provenance, Question, QuestionId, Task, Verdict
from events.pure.answer_parsing import Malformed, Proposal, parse_input, parse_output, parse_proposal
from events.pure.evalplus_sanitizer import extract_program
from events.pure.literal import NotLiteral, outline
from events.text.safe_text import one_line
from roles.judging.degenerate import degenerate_reason, text_objection
from roles.judging.judging_rules import OUTCOME_OF_STATUS
from roles.judging.run_tests import detail, outcome_letters, run_programs, why
from roles.judging.safety import makes_sets, operations, parse_source, replace_operation, unparse_objection, unsafe_reason
from sandbox.compare import canonical_arguments, canonical_text, outputs_match
from sandbox.runner import InputRun, Job, JobResult, Runner

USAGE_FIELDS = ("seconds", "cpu_seconds", "peak_mb")
"""What is told of running an answer."""


MIN_AGREEING = 3
"""Failed answers that must agree with each other before that says something of the statement."""
RERUN_HASH_SEEDS = (1, 2, 3, 4)
"""Hash seeds of the workers on which proposals are run again. One is enough for a program without sets; two texts in a set
stand in the same order as before under half of all seeds."""
MAX_OPERATIONS = 100
"""Operations of a proposed program, without each of which it is tried."""
_INTERRUPT = ast.parse("raise KeyboardInterrupt").body[0]


class ReferenceProgram(Protocol):
    """What a world knows about its own language: the reference program of a statement, None where it cannot say."""

    def __call__(self, statement: str, /) -> str | None:
        """The reference program, or None."""
        ...


class RejectedProposal(NamedTuple):
    """A proposal that cannot be asked, and why."""

    reason: Reason
    detail: str
    question: Question | None = None


@dataclass(frozen=True)
class JudgedAttempts:
    """What was found out about answers, in order. It unpacks to verdicts and what running them took."""

    verdicts: list[Verdict]
    """One an answer; equal answers have equal verdicts."""
    used: dict[str, list[float | None]]
    """What running them took, by name (`USAGE_FIELDS`), one an answer; None for one that was not run."""
    said: list[str | None]
    """Of programs: a digest of the outputs for all private inputs (`Trial.said`), one an answer."""

    def __iter__(self) -> Iterator[Any]:
        """Verdicts, and what running them took."""
        return iter((self.verdicts, self.used))

    @property
    def agreeing(self) -> int:
        """Failed answers that gave the same outputs for all private inputs, where `MIN_AGREEING` did, and more than passed."""
        failed = [said for verdict, said in zip(self.verdicts, self.said, strict=True) if said and verdict.outcome != "passed"]
        most = max(Counter(failed).values(), default=0)
        passed = sum(verdict.outcome == "passed" for verdict in self.verdicts)
        return most if most >= MIN_AGREEING and most > passed else 0


class ValidProposal(NamedTuple):
    """A proposal that can be asked."""

    question: Question
    aligned: bool | None


@dataclass(frozen=True)
class Verifier:
    """Runs programs and compares values."""

    runner: Runner
    pairs: int
    public_pairs: int
    distinct: int
    truth: ReferenceProgram | None = None
    rules: JudgingRules = "own"
    """By which answers are judged ..."""
    per_test: bool = False
    ruled: Mapping[QuestionId, JudgingRules] = field(default_factory=dict)
    """... but for those to questions that have rules of their own."""

    def provenance_of(self, question: Question) -> Provenance:
        """Conditions of its verdicts on answers to a question."""
        return self.runner.provenance.model_copy(update={"rules": self.rules_of(question), "per_test": self.per_test})

    def rules_of(self, question: Question) -> JudgingRules:
        """The rules by which answers to a question are judged; EvalPlus knows functions only."""
        rules = self.ruled.get(question.id, self.rules) if self.ruled else self.rules
        unknown = question.mode == "stdin" or "." in question.entry
        return "own" if rules == "evalplus" and unknown else rules

    async def judge(self, question: Question, task: Task, pair: int | None, texts: Sequence[str]) -> JudgedAttempts:
        """A verdict for each answer, and what it took.

        Raises:
            SandboxError: the sandbox failed.
        """
        if task == "induction":
            return await self._judge_programs(question, texts)
        assert pair is not None, f"{task} asks about one pair"
        asked = question.pairs[pair]
        if task == "deduction":
            return await asyncio.to_thread(_judge_outputs, texts, asked.output)
        return await self._judge_inputs(question, asked.output, texts)

    async def validate(self, text: str) -> ValidProposal | RejectedProposal:
        """Whether a teacher's text is a question that can be asked: parsed, safe, reproducible, not degenerate.

        Every input is also run alone, in a process of its own, on a worker with another hash seed and other addresses, and all
        of them there in another order: what depends on any of that has no output that an answer could be held against.

        Raises:
            SandboxError: the sandbox failed.
        """
        # In threads, since a hostile proposal may take its time: others are served meanwhile.
        read = await asyncio.to_thread(_check_text, text, self.pairs)
        if isinstance(read, RejectedProposal):
            return read
        proposal, tree = read
        inputs = proposal.inputs
        seeds = RERUN_HASH_SEEDS if makes_sets(tree) else RERUN_HASH_SEEDS[:1]
        # Those of one seed stand in a row, since a worker takes such a row at once.
        places = sorted(range(len(inputs)), key=lambda place: place % len(seeds))
        asked = [(inputs, 0), (inputs[::-1], seeds[0])]
        asked += [((inputs[place],), seeds[place % len(seeds)]) for place in places]
        first, backwards, *alone = await self.runner.run(
            [Job(source=proposal.program, inputs=given, hash_seed=seed) for given, seed in asked]
        )
        if failed := next((run for run in first.runs if run.status != "ok"), None):
            return RejectedProposal("broken", one_line(f"{failed.status}: {detail(failed)}", 200))
        others = {
            "in another order": backwards.runs[::-1],
            "alone": [alone[places.index(place)].runs[0] for place in range(len(inputs))],
        }
        question = await asyncio.to_thread(self._examined, proposal, tree, first, others)
        return (
            question if isinstance(question, RejectedProposal) else await self._compared(question, tree, _output_values(first))
        )

    def _examined(
        self, proposal: Proposal, tree: ast.Module, first: JobResult, others: Mapping[str, Sequence[InputRun]]
    ) -> Question | RejectedProposal:
        """The question that a proposal is, beside what came of its inputs elsewhere."""
        try:
            values = [canonical_text(outline(run.value)) for run in first.runs]
        except NotLiteral:
            return RejectedProposal("unsafe", "an output is not a value")
        for how, runs in others.items():
            if any(not _gave_value(run, value) for run, value in zip(runs, values, strict=True)):
                return RejectedProposal(
                    "nondeterministic", f"an input gave another output {how}, in a fresh process with another hash seed"
                )
        question = self._question(proposal.message, proposal.program, proposal.inputs, first)
        if len({*values}) < min(self.distinct, len(values)):
            return RejectedProposal("degenerate", "the outputs hardly differ", question)
        why = degenerate_reason(question, tree)
        return question if why is None else RejectedProposal("degenerate", why, question)

    async def _compared(
        self, question: Question, tree: ast.Module, values: tuple[str, ...]
    ) -> ValidProposal | RejectedProposal:
        """The question beside its own parts and the world's truth: not degenerate, and whether aligned."""
        known = self.truth(question.statement) if self.truth else None
        parts = operations(tree, question.entry)
        if len(parts) > MAX_OPERATIONS:
            return RejectedProposal(
                "degenerate", f"the program has more than {MAX_OPERATIONS} operations to be tried without", question
            )
        sources = await asyncio.to_thread(lambda: [replace_operation(tree, part, ast.Pass()) for part in parts])
        runs = await self._on_all(question, sources + ([known] if known is not None else []))
        others, truth = (runs[:-1], runs[-1]) if known is not None else (runs, None)
        idle = [part for part, other in zip(parts, others, strict=True) if other == values]
        # What no input comes to is a guard; what one comes to and does not need is idle.
        reached = await self._on_all(question, [replace_operation(tree, part, _INTERRUPT) for part in idle])
        if any(other != values for other in reached):
            return RejectedProposal("degenerate", "an operation is without effect", question)
        return ValidProposal(question, None if self.truth is None else truth is not None and truth == values)

    async def _on_all(self, question: Question, sources: Sequence[str]) -> list[tuple[str, ...]]:
        """What programs give for all inputs of a question."""
        inputs = tuple(pair.input for pair in question.pairs)
        runs = await self.runner.run([Job(source=source, inputs=inputs) for source in sources]) if sources else []
        return [_output_values(execution) for execution in runs]

    def _question(self, statement: str, program: str, inputs: Sequence[str], execution: JobResult) -> Question:
        pairs = tuple(IOPair(input=given, output=run.value) for given, run in zip(inputs, execution.runs, strict=True))
        cut = self.public_pairs
        return Question(statement=statement, program=program, public=pairs[:cut], private=pairs[cut:])

    async def _judge_programs(self, question: Question, texts: Sequence[str]) -> JudgedAttempts:
        rules = self.rules_of(question)
        taken = await asyncio.to_thread(
            lambda: {text: extract_program(text, rules, question.entry) for text in dict.fromkeys(texts)}
        )
        answers = [taken[text] for text in texts]
        programs = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        found = await run_programs(self.runner, question, programs, rules, per_test=self.per_test)
        judged = _collect_verdicts(
            [
                (found[answer].verdict, found[answer].used) if isinstance(answer, str) else (_malformed_verdict(answer), None)
                for answer in answers
            ]
        )
        return replace(judged, said=[found[answer].said if isinstance(answer, str) else None for answer in answers])

    async def _judge_inputs(self, question: Question, expected: str, texts: Sequence[str]) -> JudgedAttempts:
        answers = [parse_input(text) for text in texts]
        inputs = list(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        jobs = [Job(source=question.program_with_context or "", inputs=(given,), entry=question.entry) for given in inputs]
        executions = await self.runner.run(jobs) if jobs else []
        verdicts = await asyncio.to_thread(lambda: [_judge_run(execution.runs[0], expected) for execution in executions])
        found = {
            given: (verdict, {name: getattr(execution, name) for name in USAGE_FIELDS})
            for given, verdict, execution in zip(inputs, verdicts, executions, strict=True)
        }
        return _collect_verdicts(
            [found[answer] if isinstance(answer, str) else (_malformed_verdict(answer), None) for answer in answers]
        )


def _check_text(text: str, pairs: int) -> tuple[Proposal, ast.Module] | RejectedProposal:
    """A proposal and the tree of its program, unless there is something against them that can be seen without running it."""
    proposal = parse_proposal(text, pairs)
    if isinstance(proposal, Malformed):
        return RejectedProposal("malformed", proposal.reason)
    tree = parse_source(proposal.program)
    if tree is None:
        return RejectedProposal("broken", "the program does not parse")
    if (why := unparse_objection(tree) or unsafe_reason(tree)) is not None:
        return RejectedProposal("unsafe", why)
    if (why := text_objection(proposal.message, proposal.program, proposal.inputs)) is not None:
        return RejectedProposal("degenerate", why)
    if len({*map(canonical_arguments, proposal.inputs)}) < pairs:
        return RejectedProposal("degenerate", "an input is repeated")
    return proposal, tree


def _output_values(execution: JobResult) -> tuple[str, ...]:
    return tuple(run.value if run.status == "ok" else f"<{run.status}>" for run in execution.runs)


def _gave_value(run: InputRun, value: str) -> bool:
    """Whether a run gave the value with that canonical text."""
    try:
        return run.status == "ok" and canonical_text(outline(run.value)) == value
    except NotLiteral:
        return False


def _collect_verdicts(found: Sequence[tuple[Verdict, dict[str, float] | None]]) -> JudgedAttempts:
    used = {name: [None if one is None else round(one[name], 6) for _, one in found] for name in USAGE_FIELDS}
    return JudgedAttempts([verdict for verdict, _ in found], used, [None] * len(found))


def _malformed_verdict(answer: Malformed) -> Verdict:
    return Verdict(outcome="malformed", passed=0, total=1, detail=one_line(answer.reason, 200), tests="")


def _judge_outputs(texts: Sequence[str], expected: str) -> JudgedAttempts:
    return _collect_verdicts([(_judge_output(parse_output(text), expected), None) for text in texts])


def _judge_output(answer: str | Malformed, expected: str) -> Verdict:
    if isinstance(answer, Malformed):
        return _malformed_verdict(answer)
    right = outputs_match(expected, answer)
    return _single_test_verdict("passed" if right else "wrong_answer")


def _judge_run(run: InputRun, expected: str) -> Verdict:
    if run.status != "ok":
        return _single_test_verdict(OUTCOME_OF_STATUS[run.status], why(run))
    return (
        _single_test_verdict("passed") if outputs_match(expected, run.value) else _single_test_verdict("wrong_answer", why(run))
    )


def _single_test_verdict(outcome: Outcome, reason: str = "") -> Verdict:
    return Verdict(outcome=outcome, passed=int(outcome == "passed"), total=1, detail=reason, tests=outcome_letters([outcome]))
