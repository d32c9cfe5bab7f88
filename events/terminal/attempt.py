"""One attempt in the terminal: prompt, completion, program, tests, verdict, tokens, reward, and who learned from it.

Law: drawn from `events.projections.answer_detail`. Every attempt is named `STREAM:VERSION/INDEX`, so that nobody has to guess
which answers a number counts among.
"""

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
from events.projections.answer_detail import CompletionDetail
from events.pure.test_outcomes import judged_tests
from events.terminal.drawing import diff_text, heading, indented, next_commands, plain_text, program_text, table
from events.terminal.question import test_case_cells
from events.text.safe_text import clean, one_line

SURE = 0.9
"""Tokens that were likelier are shown without their probability."""
LINES = 30
"""Lines that a comparison with the reference program may have to be shown."""


def attempt_json(story: CompletionDetail) -> dict[str, Any]:
    """The attempt for programs."""
    told: dict[str, Any] = TypeAdapter(CompletionDetail).dump_python(story, mode="json")
    return {"name": story.name, **told, "positions": story.positions._asdict()}


def parse_answers_name(name: str) -> tuple[str, int]:
    """Stream and version of what a command line calls answers.

    Raises:
        BadInput: it is not of the form STREAM:VERSION.
    """
    stream, _, version = name.rpartition(":")
    if not stream or not version.isdecimal() or len(version) > 15:
        raise BadInput(f"{one_line(name, 60)!r} names no answers; write STREAM:VERSION, as traces of a question show it")
    return stream, int(version)


def latest_answers(index: Index, question: QuestionId) -> tuple[str, int, str]:
    """Stream and version of the latest answers to a question, and which they are in words.

    Raises:
        BadInput: nobody has answered it.
    """
    found = index.answers(question=question, limit=2)
    if not found:
        raise BadInput(f"nobody has answered question {clean(question)}; what the teacher wrote is named by --answers")
    words = "the only answers to this question" if len(found) == 1 else "the latest answers to it; --answers names others"
    return found[0].stream, found[0].version, words


def draw_attempt(story: CompletionDetail, where: str, among: str = "") -> RenderableType:
    """The attempt, from what it is to the next commands."""
    parts: list[RenderableType] = [_title(story, among), *_facts(story)]
    parts += ["", heading("Prompt"), indented(plain_text(story.prompt.rstrip("\n")))]
    parts += ["", heading("Completion"), indented(_completion(story))]
    if story.program is not None and not _bare(story):
        parts += ["", heading("The program in it"), indented(program_text(story.program))]
    parts += _compared(story)
    if story.answer is not None:
        parts += ["", heading("The answer in it"), indented(plain_text(story.answer))]
    if story.question is not None and story.role == "student":
        parts += ["", heading("Tests"), indented(_tests(story))]
    parts += ["", heading(_measure(story)), indented(_tokens(story))]
    return Group(*parts, "", next_commands(where, _deeper(story)))


def _title(story: CompletionDetail, among: str) -> Text:
    kind = "proposal" if story.role == "teacher" else "attempt"
    counted = f", which has 0 to {story.count - 1}" if story.count > 1 else ""
    title = Text.assemble((f"{kind} {story.index}", "bold"), f" of {one_line(story.stream)}:{story.version}{counted}")
    return title.append(f" ({among})" if among else "", "dim")


def _facts(story: CompletionDetail) -> Iterator[Text]:
    when = "in an examination" if story.iteration is None else f"in iteration {story.iteration}"
    asked = clean(story.asked)[:SHORT]
    if story.role == "teacher":
        what = f"The teacher's {story.task} seat varies question {asked} {when}"
    else:
        what = f"Question {asked} as {story.task}, for {story.purpose.replace('_', ' ')}, {when}"
    sampling = story.sampling
    yield Text(f"{what}. Sampled by {clean(story.policy)[:SHORT]} at temperature {sampling.temperature:g}, seed {story.seed}.")
    yield _verdict(story)
    yield Text(_worth(story))


def _verdict(story: CompletionDetail) -> Text:
    if story.proposal is not None:
        told = story.proposal
        became = "accepted" if told.accepted else (told.rejected or "not judged yet").replace("_", " ")
        detail = f": {one_line(told.detail, 200)}" if told.detail else ""
        return Text.assemble("It became ", (became, "bold green" if told.accepted else "bold"), detail, ".")
    if story.verdict is None:
        return Text("Not verified yet.")
    found = story.verdict
    name = found.outcome.replace("_", " ")
    line = Text.assemble("Verdict: ", (name, "bold green" if found.outcome == "passed" else "bold red"))
    line.append(f", {found.passed} of {found.total} tests passed" if found.total else "")
    line.append(f"; {one_line(found.detail, 200)}" if found.detail else "")
    if story.malformed and found.outcome == "malformed" and story.malformed != found.detail:
        line.append(f"; {story.malformed}")
    used = [f"{story.used[name]:.3g} {unit}" for name, unit in (("seconds", "s"), ("peak_mb", "MB")) if name in story.used]
    line.append(f". It took {' and '.join(used)}" if used else "")
    if story.provenance is not None:
        line.append(f", under {story.provenance.rules} rules in image {one_line(story.provenance.image, 19)}", "dim")
    return line.append(".")


def _worth(story: CompletionDetail) -> str:
    if story.reward is None:
        return "No reward: nothing is learned from it."
    advantage = "not known before its iteration ends" if story.advantage is None else f"{story.advantage:+.3f}"
    learned = ", ".join(clean(digest)[:SHORT] for digest in story.learned_by)
    told = f"learned by {learned}" if learned else "not learned from yet"
    return f"Reward {story.reward:g}, advantage {advantage}, {story.phase} phase; {told}."


def _bare(story: CompletionDetail) -> bool:
    """Whether the completion is its program and a fence, and nothing else."""
    text = story.completion.replace("\r\n", "\n").strip()
    return story.program is not None and text == f"```python\n{story.program}\n```"


def _completion(story: CompletionDetail) -> Text:
    if not _bare(story):
        return plain_text(story.completion.rstrip("\n"))
    return Text("```python\n").append_text(program_text(story.program or "")).append("\n```")


def _compared(story: CompletionDetail) -> list[RenderableType]:
    """How a wrong program differs from the reference, where that is short."""
    reference = story.reference
    changed = None if reference is None else diff_text(reference, story.program or "", most=LINES)
    return [] if changed is None else ["", heading("Compared with the reference program (-)"), indented(changed)]


def _tests(story: CompletionDetail) -> RenderableType:
    assert story.question is not None
    per_test = story.provenance is not None and story.provenance.per_test
    rows = table("#", "shown", "input", "expected output", "result", right=("#",))
    public = len(story.question.public)
    for one in judged_tests(story.question.pairs, public, story.verdict, per_test=per_test, only=story.pair):
        given, wanted = test_case_cells(story.question.pairs[one.pair])
        rows.add_row(str(one.pair), "public" if one.public else "private", given, wanted, one.result.replace("_", " "))
    return rows


def _measure(story: CompletionDetail) -> str:
    count = len(story.ids)
    mean = f", mean logprob {sum(story.logprobs) / count:.3f}" if count else ""
    return f"Tokens: {count}{mean}; ‹p› follows a token that was less likely than {SURE:g}"


def _tokens(story: CompletionDetail) -> Text:
    """The completion with the probability behind each token that was a choice; ids where there is no tokenizer."""
    draw_attempt = Text()
    for place, (token, logprob) in enumerate(zip(story.ids, story.logprobs, strict=True)):
        said = clean(story.pieces[place]) if story.pieces is not None else f"{token} "
        likely = math.exp(min(0.0, logprob)) if not math.isnan(logprob) else 0.0
        if likely >= SURE:
            draw_attempt.append(said)
            continue
        style = "bold red" if likely < 0.1 else "yellow"
        body = said.rstrip("\n ")
        draw_attempt.append(body, style)
        draw_attempt.append(f"‹{likely:.2g}›", f"dim {style}")
        draw_attempt.append(said[len(body) :])
    draw_attempt.rstrip()
    return draw_attempt


def _deeper(story: CompletionDetail) -> list[tuple[str, str, str]]:
    at = f"--answers {one_line(story.stream)}:{story.version}"
    commands = [("this attempt again", "events.trace", f"{at} --attempt {story.index}")]
    if story.count > 1:
        commands.append(("the next one", "events.trace", f"{at} --attempt {(story.index + 1) % story.count}"))
    commands.append(("its question", "events.trace", clean(story.asked)[:SHORT]))
    return [*commands, ("tokens as numbers", "events.trace", f"{at} --attempt {story.index} --json")]
