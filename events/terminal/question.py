"""Any question in the terminal: where it appeared, what was answered for which purpose, and how it differs from its parent.

Law: drawn from the index and the blobs that it names. A question that only examinations ask has no text in the log but its
prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.log import ReadableLog
from events.facts.values import IOPair, Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry
from events.projections.goalpost_history import statement_doubt
from events.reports.run_overview import count_text, number
from events.terminal.drawing import diff_text, heading, indented, next_commands, plain_text, program_text, table
from events.terminal.goalpost import read_question
from events.text.safe_text import clean, one_line

ROWS = 12
"""Appearances and answers that are shown unless all are asked for, the latest."""
_CELL = 60
"""Characters of an input or an output in a table."""
_ALL = 10_000


@dataclass(frozen=True)
class QuestionView:
    """A question as it is shown."""

    question: QuestionId
    text: Question | None
    """None where the log holds no more than prompts."""
    appearances: list[AppearanceEntry]
    """In order."""
    answers: list[AttemptsEntry]
    """The latest first."""
    parent: Question | None

    @property
    def data(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "question": self.question,
            "text": None if self.text is None else self.text.model_dump(mode="json"),
            "appearances": [asdict(one) for one in self.appearances],
            "answers": [asdict(one) for one in self.answers],
            "parent": None if self.parent is None else self.parent.model_dump(mode="json"),
        }


def find_question(index: Index, prefix: str) -> QuestionId:
    """The question whose id starts so, be it a goalpost or any other.

    Raises:
        BadInput: none or several do.
    """
    found = {one.question: one for one in index.find(prefix) if one.question is not None}
    exact = QuestionId(prefix)
    if exact in found or (not found and index.answers(question=exact, limit=1)):
        return exact
    if not found:
        message = f"no question of this run has an id that starts with {one_line(prefix, 40)!r}"
        raise BadInput(f"{message}; leave it out to see goalposts, or find questions by `python -m events search RUN WORDS`")
    if len(found) > 1:
        some = ", ".join(f"{clean(question)} ({one.origin})" for question, one in list(found.items())[:5])
        more = " at least" if len(found) >= 20 else ""
        message = f"{len(found)} questions{more} have ids that start with {one_line(prefix, 40)!r}"
        raise BadInput(f"{message}: {some}{', …' if len(found) > 5 else ''}; give more of it")
    return next(iter(found))


def question_view(log: ReadableLog, index: Index, question: QuestionId) -> QuestionView:
    """All that the log says of a question."""
    appearances = index.appearances(question, limit=_ALL)
    blob = next((one.blob for one in appearances if one.blob), None)
    above = next((one.parent for one in appearances if one.parent), None)
    parents = index.appearances(above, limit=1) if above is not None else []
    parent = next((read_question(log, one.blob) for one in parents if one.blob), None)
    text = None if blob is None else read_question(log, blob)
    return QuestionView(question, text, appearances, index.answers(question=question, limit=_ALL), parent)


def draw_question(told: QuestionView, where: str, *, whole: bool = False, diff: bool = False) -> RenderableType:
    """The question, from what it is to the next commands."""
    parts: list[RenderableType] = [_title(told), *_sentences(told)]
    if told.text is not None:
        parts += ["", heading("Statement"), indented(plain_text(told.text.statement))]
        if told.text.context:
            parts += ["", heading("Code before every answer"), indented(program_text(told.text.context))]
        if told.text.program is not None:
            parts += ["", heading("Reference program"), indented(program_text(told.text.program))]
        parts += _differing(told, most=None if diff else 40)
        parts += ["", heading("Inputs and outputs"), indented(test_case_table(told.text))]
    if told.answers:
        parts += ["", heading("Answers by purpose"), indented(_purposes(told.answers))]
        parts += ["", heading(_title_of("Answers", len(told.answers), whole)), indented(_answers(told.answers, whole))]
    if len(told.appearances) > 1:
        title = _title_of("Appearances", len(told.appearances), whole)
        parts += ["", heading(title), indented(_appearances(told.appearances, whole))]
    return Group(*parts, "", next_commands(where, _deeper(told)))


def _title(told: QuestionView) -> Text:
    first = told.appearances[0] if told.appearances else None
    kind = "examination" if first is None else str(first.origin)
    noun = " question" if kind in ("examination", "open", "practice") else ""
    title = Text(f"{kind}{noun} {clean(told.question)}", "bold")
    if first is not None and first.goalpost is not None:
        title.append(f" of goalpost {clean(first.goalpost)[:SHORT]}", "default")
    return title


def _sentences(told: QuestionView) -> list[Text]:
    if not told.appearances:
        return [Text("Only examinations asked it: the log has its prompts and answers, but not the question itself.")]
    return [Text(_sentence(one)) for one in told.appearances[:1]]


def _sentence(one: AppearanceEntry) -> str:
    when = f"in iteration {one.iteration}" if one.iteration is not None else "at the start"
    if one.seat is None:
        return f"First asked {when}, in {one_line(one.stream)}."
    made = f"Proposed {when} by the {one.seat} seat (proposal {one.attempt}, axis {one.axis}, {one_line(one.stream)})"
    rate = "" if one.successes is None else f"{one.successes} of {one.attempts} answers passed"
    known = [rate] if rate else []
    known += filter(None, [statement_doubt(one.attempts, one.agreeing)])
    known += [f"reward {one.reward:.2f}"] if one.reward is not None else []
    known += [f"similarity {one.similarity:.2f} to an earlier one"] if one.similarity is not None else []
    known += [] if one.aligned is None else ["statement and program " + ("agree" if one.aligned else "do not agree")]
    figures = f": {', '.join(known)}" if known else ""
    if one.accepted:
        return f"{made} and accepted{figures}."
    if one.reason is not None:
        why = f"{one.reason.replace('_', ' ')}{f', {one_line(one.detail, 100)}' if one.detail else ''}"
        return f"{made} and rejected ({why}){figures}."
    return f"{made}, not judged yet{figures}."


def _differing(told: QuestionView, most: int | None) -> list[RenderableType]:
    if told.text is None or told.parent is None:
        return []
    first = next(one for one in told.appearances if one.parent)
    above = {"lemma": "goalpost", "lift": "lemma"}.get(first.origin, "reference")
    title = f"Changed from its {above} {clean(first.parent or '')[:SHORT]}"
    old, new = told.parent, told.text
    texts = [(old.statement, new.statement), (old.program or "", new.program or "")]
    draw_question = [changed for before, after in texts if (changed := diff_text(before, after, most=most)) is not None]
    return ["", heading(title), *map(indented, draw_question)] if draw_question else []


def test_case_table(question: Question) -> RenderableType:
    """The pairs as a table."""
    rows = table("#", "shown", "input", "output", right=("#",))
    for place, pair in enumerate(question.pairs):
        rows.add_row(str(place), "public" if place < len(question.public) else "private", *test_case_cells(pair))
    return rows


def test_case_cells(pair: IOPair) -> tuple[Text, Text]:
    """Input and output, cut."""
    return plain_text(pair.input, _CELL), plain_text(pair.output, _CELL)


def _title_of(name: str, count: int, whole: bool) -> str:
    return name if whole or count <= ROWS else f"{name}, {ROWS} of {count} (--all shows all)"


def _purposes(answers: Sequence[AttemptsEntry]) -> RenderableType:
    rows = table("purpose", "task", "prompts", "answers", "passed", "verdicts", right=("prompts", "answers", "passed"))
    groups: dict[tuple[str, str], list[AttemptsEntry]] = {}
    for one in reversed(answers):
        groups.setdefault((one.purpose, one.task), []).append(one)
    for (purpose, task), of in groups.items():
        outcomes: Counter[str] = Counter()
        for one in of:
            outcomes.update({str(name): count for name, count in one.outcomes.items()})
        made = sum(one.count for one in of)
        passed = f"{outcomes['passed']}/{made}"
        rows.add_row(purpose.replace("_", " "), task, str(len(of)), str(made), passed, count_text(outcomes))
    return rows


def _answers(answers: Sequence[AttemptsEntry], whole: bool) -> RenderableType:
    rows = table("answers", "iteration", "purpose", "task", "verdicts", "reward", "policy", right=("iteration", "reward"))
    for one in answers if whole else answers[:ROWS]:
        rows.add_row(
            f"{one_line(one.stream)}:{one.version}",
            "–" if one.iteration is None else str(one.iteration),
            one.purpose.replace("_", " "),
            one.task,
            count_text({str(name): count for name, count in one.outcomes.items()}) or "not verified yet",
            number(one.reward),
            clean(one.policy)[:SHORT],
        )
    return rows


def _appearances(appearances: Sequence[AppearanceEntry], whole: bool) -> RenderableType:
    rows = table("where", "iteration", "what", "goalpost", "became", right=("iteration",))
    for one in appearances if whole else appearances[-ROWS:]:
        became = "accepted" if one.accepted else (one.reason or "").replace("_", " ")
        rows.add_row(
            f"{one_line(one.stream)}:{one.version}",
            "–" if one.iteration is None else str(one.iteration),
            one.origin,
            clean(one.goalpost or "–")[:SHORT],
            became or "–",
        )
    return rows


def _deeper(told: QuestionView) -> list[tuple[str, str, str]]:
    name = clean(told.question)[:SHORT]
    commands = []
    if told.answers:
        latest = told.answers[0]
        commands.append(("one of its latest answers", "events.trace", f"{name} --attempt 0"))
        chosen = f"{name} --answers {one_line(latest.stream)}:{latest.version} --attempt 0"
        commands.append(("of answers that you name", "events.trace", chosen))
    for one in told.appearances[:1]:
        if one.seat is not None:
            proposal = f"--answers {one_line(one.stream)}:{one.version} --attempt 0"
            commands.append(("what the teacher wrote", "events.trace", proposal))
        if one.goalpost is not None:
            commands.append(("its goalpost", "events.trace", clean(one.goalpost)[:SHORT]))
    return commands
