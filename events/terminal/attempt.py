"""Draws one completion in the terminal: prompt, program, tests, verdict, tokens, reward, and who learned from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.text import Text

from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.values import QuestionId
from events.index.reader import Index
from events.projections.completion_detail import CompletionDetail
from events.pure.test_outcomes import judged_tests
from events.terminal.drawing import diff_text, heading, indented, next_commands, plain_text, program_text, table
from events.terminal.question import case_cells
from events.text.phrases import words
from events.text.safe_text import clean, one_line

SURE = 0.9
"""Tokens at least as probable are shown without their probability."""
LINES = 30
"""A comparison with the reference program that has more lines is not shown."""


def attempt_json(detail: CompletionDetail) -> dict[str, Any]:
    """The completion as plain data."""
    fields: dict[str, Any] = TypeAdapter(CompletionDetail).dump_python(detail, mode="json")
    return {"name": detail.name, **fields, "positions": detail.positions._asdict()}


def parse_answers_name(name: str) -> tuple[str, int]:
    """Stream and version of answers that a command line names; BadInput if it is not of the form STREAM:VERSION."""
    stream, _, version = name.rpartition(":")
    if not stream or not version.isdecimal() or len(version) > 15:
        raise BadInput(f"{one_line(name, 60)!r} names no answers; write STREAM:VERSION, as traces of a question show it.")
    return stream, int(version)


def latest_answers(index: Index, question: QuestionId) -> tuple[str, int, str]:
    """Stream and version of the latest answers to a question, and a phrase that says which; BadInput if it has none."""
    answers = index.answers(question=question, limit=2)
    if not answers:
        raise BadInput(f"Question {clean(question)} has no answers; name what the teacher wrote by --answers.")
    which = "the only answers to this question" if len(answers) == 1 else "the latest answers to it; --answers names others"
    return answers[0].stream, answers[0].version, which


def draw_attempt(detail: CompletionDetail, where: str, among: str = "") -> RenderableType:
    """The completion, from its name to the next commands; `among` says which answers its index counts among."""
    parts: list[RenderableType] = [_title(detail, among), *_facts(detail)]
    parts += ["", heading("Prompt"), indented(plain_text(detail.prompt.rstrip("\n")))]
    parts += ["", heading("Completion"), indented(_completion(detail))]
    if detail.program is not None and not _bare(detail):
        parts += ["", heading("The program in it"), indented(program_text(detail.program))]
    parts += _compared(detail)
    if detail.answer is not None:
        parts += ["", heading("The answer in it"), indented(plain_text(detail.answer))]
    if detail.question is not None and detail.role == "student":
        parts += ["", heading("Tests"), indented(_tests(detail))]
    parts += ["", heading(_measure(detail)), indented(_tokens(detail))]
    return Group(*parts, "", next_commands(where, _next(detail)))


def _title(detail: CompletionDetail, among: str) -> Text:
    kind = "proposal" if detail.role == "teacher" else "attempt"
    counted = f", which has 0 to {detail.count - 1}" if detail.count > 1 else ""
    title = Text.assemble((f"{kind} {detail.index}", "bold"), f" of {one_line(detail.stream)}:{detail.version}{counted}")
    return title.append(f" ({among})" if among else "", "dim")


def _facts(detail: CompletionDetail) -> Iterator[Text]:
    when = "in an evaluation" if detail.iteration is None else f"in iteration {detail.iteration}"
    asked = clean(detail.asked)[:SHORT]
    if detail.role == "teacher":
        what = f"The teacher's {detail.task} seat varies question {asked} {when}"
    else:
        what = f"Question {asked} as {detail.task}, for {words(detail.purpose)}, {when}"
    sampled = f"Sampled by {clean(detail.policy)[:SHORT]} at temperature {detail.sampling.temperature:g}, seed {detail.seed}."
    yield Text(f"{what}. {sampled}")
    yield _verdict(detail)
    if detail.vote:
        yield Text(f"Vote: {detail.vote}.")
    if detail.sure is not None:
        yield Text(f"Certainty {detail.sure.certainty:.2f}, confidence {detail.sure.confidence:.2f} (docs/certainty.md).")
    yield Text(_learning(detail))


def _verdict(detail: CompletionDetail) -> Text:
    if detail.proposal is not None:
        proposal = detail.proposal
        result = "accepted" if proposal.accepted else words(proposal.rejected or "not judged yet")
        why = f": {one_line(proposal.detail, 200)}" if proposal.detail else ""
        return Text.assemble("It became ", (result, "bold green" if proposal.accepted else "bold"), why, ".")
    if detail.verdict is None:
        return Text("Not verified yet.")
    verdict = detail.verdict
    line = Text.assemble("Verdict: ", (words(verdict.outcome), "bold green" if verdict.outcome == "passed" else "bold red"))
    line.append(f", {verdict.passed} of {verdict.total} tests passed" if verdict.total else "")
    line.append(f"; {one_line(verdict.detail, 200)}" if verdict.detail else "")
    if detail.malformed and verdict.outcome == "malformed" and detail.malformed != verdict.detail:
        line.append(f"; {detail.malformed}")
    used = [f"{detail.used[name]:.3g} {unit}" for name, unit in (("seconds", "s"), ("peak_mb", "MB")) if name in detail.used]
    line.append(f". It took {' and '.join(used)}" if used else "")
    if detail.provenance is not None:
        line.append(f", under {detail.provenance.rules} rules in image {one_line(detail.provenance.image, 19)}", "dim")
    return line.append(".")


def _learning(detail: CompletionDetail) -> str:
    if detail.reward is None:
        return "No reward: nothing is learned from it."
    estimator = f"by {detail.advantage_estimator}{' (assumed, the log names none)' if detail.estimator_assumed else ''}"
    advantage = "not known before its iteration ends" if detail.advantage is None else f"{detail.advantage:+.3f} {estimator}"
    learned = ", ".join(clean(digest)[:SHORT] for digest in detail.learned_by)
    consumed = f"learned by {learned}" if learned else "not learned from yet"
    return f"Reward {detail.reward:g}, advantage {advantage}, {detail.phase} phase; {consumed}."


def _bare(detail: CompletionDetail) -> bool:
    """Whether the completion is its program and a fence, and nothing else."""
    text = detail.completion.replace("\r\n", "\n").strip()
    return detail.program is not None and text == f"```python\n{detail.program}\n```"


def _completion(detail: CompletionDetail) -> Text:
    if not _bare(detail):
        return plain_text(detail.completion.rstrip("\n"))
    return Text("```python\n").append_text(program_text(detail.program or "")).append("\n```")


def _compared(detail: CompletionDetail) -> list[RenderableType]:
    """How a wrong program differs from the reference, where that is short."""
    reference = detail.reference
    changed = None if reference is None else diff_text(reference, detail.program or "", most=LINES)
    return [] if changed is None else ["", heading("Compared with the reference program (-)"), indented(changed)]


def _tests(detail: CompletionDetail) -> RenderableType:
    assert detail.question is not None
    per_test = detail.provenance is not None and detail.provenance.per_test
    rows = table("#", "shown", "input", "expected output", "result", right=("#",))
    public = len(detail.question.public)
    for test in judged_tests(detail.pairs, public, detail.verdict, per_test=per_test, only=detail.pair):
        cells = case_cells(detail.question.pairs[test.pair])
        rows.add_row(str(test.pair), "public" if test.public else "private", *cells, words(test.result))
    return rows


def _measure(detail: CompletionDetail) -> str:
    count = sum(detail.sampled)
    mean = f", mean logprob {sum(detail.logprobs) / count:.3f}" if count else ""
    given = f" and {len(detail.ids) - count} given ones, dim" if count < len(detail.ids) else ""
    return f"Tokens: {count}{given}{mean}; ‹p› follows a token that was less likely than {SURE:g}"


def _tokens(detail: CompletionDetail) -> Text:
    """The completion with the probability behind each token that was a choice; ids where there is no tokenizer."""
    text = Text()
    for number, (token, logprob) in enumerate(zip(detail.ids, detail.logprobs, strict=True)):
        piece = clean(detail.pieces[number]) if detail.pieces is not None else f"{token} "
        likely = math.exp(min(0.0, logprob)) if not math.isnan(logprob) else 0.0
        if likely >= SURE:
            text.append(piece, None if detail.sampled[number] else "dim")
            continue
        style = "bold red" if likely < 0.1 else "yellow"
        body = piece.rstrip("\n ")
        text.append(body, style)
        text.append(f"‹{likely:.2g}›", f"dim {style}")
        text.append(piece[len(body) :])
    text.rstrip()
    return text


def _next(detail: CompletionDetail) -> list[tuple[str, str, str]]:
    at = f"--answers {one_line(detail.stream)}:{detail.version}"
    commands = [("this attempt again", "events.trace", f"{at} --attempt {detail.index}")]
    if detail.count > 1:
        commands.append(("the next one", "events.trace", f"{at} --attempt {(detail.index + 1) % detail.count}"))
    commands.append(("its question", "events.trace", clean(detail.asked)[:SHORT]))
    return [*commands, ("tokens as numbers", "events.trace", f"{at} --attempt {detail.index} --json")]
