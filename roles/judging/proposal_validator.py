"""Validates a teacher's proposals: which of them are questions, by running their programs in the sandbox.

Not responsible for: novelty, documents and pass rates (`graph.play.verification`).
"""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from events.facts.types import Reason
from events.facts.values import IOPair, Question
from events.pure.answer_parsing import Malformed, Proposal, parse_proposal
from events.pure.literal import NotLiteral, outline
from events.text.safe_text import one_line
from roles.judging.degenerate import degenerate_reason, text_objection
from roles.judging.needed_code import needed_source
from roles.judging.program_operations import operations, replace_operation
from roles.judging.run_tests import run_detail
from roles.judging.safety import makes_sets, unsafe_reason
from roles.judging.syntax_tree import parse_source, unparse_objection
from sandbox.compare import canonical_arguments, canonical_text
from sandbox.runner import InputRun, Job, JobResult, Runner

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


class ValidProposal(NamedTuple):
    """A proposal that is a question."""

    question: Question
    aligned: bool | None
    """Whether the program equals the reference program of the statement; None where no reference programs are known."""


@dataclass(frozen=True)
class ProposalValidator:
    """Makes questions of proposals."""

    runner: Runner
    pairs: int
    """Test cases of a question."""
    public_pairs: int
    """How many of them are public."""
    truth: ReferenceProgram | None = None

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
