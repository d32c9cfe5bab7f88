"""Draws a question in the terminal: where it appeared, how it was answered for each purpose, how it differs from its parent."""

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
from events.facts.questions import readable_question
from events.facts.values import IOPair, Question, QuestionId
from events.index.reader import Index
from events.index.rows import AppearanceEntry, AttemptsEntry
from events.reports.explanation import statement_doubt
from events.terminal.drawing import diff_text, heading, indented, next_commands, plain_text, program_text, table
from events.text.phrases import MISSING, count_text, number, words
from events.text.safe_text import clean, one_line

ROWS = 12
"""Latest appearances and answers that are shown by default."""
_CELL = 60
"""Characters of an input or an output in a table."""
_ALL = 10_000


@dataclass(frozen=True)
class QuestionView:
    """A question as it is shown."""

    question: QuestionId
    text: Question | None
    """None where only evaluations asked it: the log then holds its prompts, not the question."""
    appearances: list[AppearanceEntry]
    answers: list[AttemptsEntry]
    """The latest first."""
    parent: Question | None

    @property
    def data(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "question": self.question,
            "text": None if self.text is None else self.text.model_dump(mode="json"),
            "appearances": [asdict(row) for row in self.appearances],
            "answers": [asdict(row) for row in self.answers],
            "parent": None if self.parent is None else self.parent.model_dump(mode="json"),
        }


def find_question(index: Index, prefix: str) -> QuestionId:
    """The id of the goalpost or other question that starts with `prefix`; BadInput if none or several do."""
    matches = {row.question: row for row in index.find(prefix) if row.question is not None}
    exact = QuestionId(prefix)
    if exact in matches or (not matches and index.answers(question=exact, limit=1)):
        return exact
    if not matches:
        message = f"No question of this run has an id that starts with {one_line(prefix, 40)!r}"
        raise BadInput(f"{message}; leave it out to see goalposts, or find questions by `gasp log search RUN WORDS`.")
    if len(matches) > 1:
        listed = ", ".join(f"{clean(question)} ({row.origin})" for question, row in list(matches.items())[:5])
        more = " or more" if len(matches) >= 20 else ""
        message = f"{len(matches)}{more} questions have ids that start with {one_line(prefix, 40)!r}"
        raise BadInput(f"{message}: {listed}{', …' if len(matches) > 5 else ''}; give more digits.")
    return next(iter(matches))


def question_view(log: ReadableLog, index: Index, question: QuestionId) -> QuestionView:
    """All that the log holds about a question."""
    appearances = index.appearances(question, limit=_ALL)
    blob = next((row.blob for row in appearances if row.blob), None)
    above = next((row.parent for row in appearances if row.parent), None)
    parents = index.appearances(above, limit=1) if above is not None else []
    parent = next((readable_question(log, row.blob) for row in parents if row.blob), None)
    answers = index.answers(question=question, limit=_ALL)
    return QuestionView(question, readable_question(log, blob), appearances, answers, parent)


def draw_question(view: QuestionView, where: str, *, whole: bool = False, diff: bool = False) -> RenderableType:
    """The question, from what it is to the next commands."""
    only_evaluated = "Only evaluations asked it: the log has its prompts and answers, but not the question itself."
    sentence = _sentence(view.appearances[0]) if view.appearances else only_evaluated
    parts: list[RenderableType] = [_title(view), Text(sentence)]
    parts += [
        Text(f"In iteration {row.iteration} a text was {row.given} ({one_line(row.stream)}).")
        for row in view.appearances
        if row.given
    ]
    if view.text is not None:
        parts += ["", *question_parts(view.text)]
        parts += _differing(view, most=None if diff else 40)
        parts += ["", heading("Inputs and outputs"), indented(case_table(view.text))]
    if view.answers:
        parts += ["", heading("Answers by purpose"), indented(_purposes(view.answers))]
        parts += ["", heading(_title_of("Answers", len(view.answers), whole)), indented(_answers(view.answers, whole))]
    if len(view.appearances) > 1:
        title = _title_of("Appearances", len(view.appearances), whole)
        parts += ["", heading(title), indented(_appearances(view.appearances, whole))]
    return Group(*parts, "", next_commands(where, _next(view)))


def question_parts(question: Question) -> list[RenderableType]:
    """Statement, code before every answer, and reference program."""
    parts: list[RenderableType] = [heading("Statement"), indented(plain_text(question.statement))]
    if question.context:
        parts += ["", heading("Code before every answer"), indented(program_text(question.context))]
    if question.program is not None:
        parts += ["", heading("Reference program"), indented(program_text(question.program))]
    return parts


def _title(view: QuestionView) -> Text:
    first = view.appearances[0] if view.appearances else None
    kind = "evaluation" if first is None else str(first.origin)
    noun = " question" if kind in ("evaluation", "open", "practice") else ""
    title = Text(f"{kind}{noun} {clean(view.question)}", "bold")
    if first is not None and first.goalpost is not None:
        title.append(f" of goalpost {clean(first.goalpost)[:SHORT]}", "default")
    return title


def _sentence(row: AppearanceEntry) -> str:
    when = f"in iteration {row.iteration}" if row.iteration is not None else "at the start"
    about = f" about document {row.document[:SHORT]} at level {row.level}" if row.document else ""
    if row.seat is None:
        if row.origin == "document":
            return f"A document, first drawn in {one_line(row.stream)}."
        return f"First asked {when}{about}, in {one_line(row.stream)}."
    made = f"Proposed {when}{about} by the {row.seat} seat (proposal {row.attempt}, axis {row.axis}, {one_line(row.stream)})"
    rate = "" if row.successes is None else f"{row.successes} of {row.attempts} answers passed"
    parts = [rate, statement_doubt(row.attempts, row.agreeing), row.vote or ""]
    parts += [f"reward {row.reward:.2f}"] if row.reward is not None else []
    parts += [f"similarity {row.similarity:.2f} to an earlier one"] if row.similarity is not None else []
    parts += [] if row.aligned is None else ["statement and program " + ("agree" if row.aligned else "do not agree")]
    figures = f": {', '.join(filter(None, parts))}" if any(parts) else ""
    if row.accepted:
        return f"{made} and accepted{figures}."
    if row.reason is not None:
        why = f"{words(row.reason)}{f', {one_line(row.detail, 100)}' if row.detail else ''}"
        return f"{made} and rejected ({why}){figures}."
    return f"{made}, not judged yet{figures}."


def _differing(view: QuestionView, most: int | None) -> list[RenderableType]:
    if view.text is None or view.parent is None:
        return []
    first = next(row for row in view.appearances if row.parent)
    above = {"lemma": "goalpost", "lift": "lemma"}.get(first.origin, "document" if first.document else "reference")
    title = f"Changed from its {above} {clean(first.parent or '')[:SHORT]}"
    old, new = view.parent, view.text
    texts = [(old.statement, new.statement), (old.program or "", new.program or "")]
    diffs = [changed for before, after in texts if (changed := diff_text(before, after, most=most)) is not None]
    return ["", heading(title), *map(indented, diffs)] if diffs else []


def case_table(question: Question) -> RenderableType:
    """The test cases as a table, the public ones first."""
    rows = table("#", "shown", "input", "output", right=("#",))
    kinds = ["public"] * len(question.public) + ["private"] * len(question.private)
    for index, (kind, pair) in enumerate(zip(kinds, question.pairs, strict=True)):
        rows.add_row(str(index), kind, *case_cells(pair))
    return rows


def case_cells(pair: IOPair) -> tuple[Text, Text]:
    """Input and output of a test case, each cut to one line."""
    return plain_text(pair.input, _CELL), plain_text(pair.output, _CELL)


def _title_of(name: str, count: int, whole: bool) -> str:
    return name if whole or count <= ROWS else f"{name}, {ROWS} of {count} (--all shows all)"


def _purposes(answers: Sequence[AttemptsEntry]) -> RenderableType:
    rows = table("purpose", "task", "prompts", "answers", "passed", "verdicts", right=("prompts", "answers", "passed"))
    groups: dict[tuple[str, str], list[AttemptsEntry]] = {}
    for entry in reversed(answers):
        groups.setdefault((entry.purpose, entry.task), []).append(entry)
    for (purpose, task), entries in groups.items():
        outcomes: Counter[str] = Counter()
        for entry in entries:
            outcomes.update(_outcomes(entry))
        total = sum(entry.count for entry in entries)
        passed = f"{outcomes['passed']}/{total}"
        rows.add_row(words(purpose), task, str(len(entries)), str(total), passed, count_text(outcomes))
    return rows


def _answers(answers: Sequence[AttemptsEntry], whole: bool) -> RenderableType:
    rows = table("answers", "iteration", "purpose", "task", "verdicts", "reward", "policy", right=("iteration", "reward"))
    for entry in answers if whole else answers[:ROWS]:
        rows.add_row(
            f"{one_line(entry.stream)}:{entry.version}",
            number(entry.iteration, 0),
            words(entry.purpose),
            entry.task,
            count_text(_outcomes(entry)) or "not verified yet",
            number(entry.reward),
            clean(entry.policy)[:SHORT],
        )
    return rows


def _outcomes(entry: AttemptsEntry) -> dict[str, int]:
    return {str(name): count for name, count in entry.outcomes.items()}


def _appearances(appearances: Sequence[AppearanceEntry], whole: bool) -> RenderableType:
    rows = table("where", "iteration", "what", "goalpost", "became", right=("iteration",))
    for row in appearances if whole else appearances[-ROWS:]:
        rows.add_row(
            f"{one_line(row.stream)}:{row.version}",
            number(row.iteration, 0),
            row.origin,
            clean(row.goalpost or MISSING)[:SHORT],
            "accepted" if row.accepted else words(row.reason or MISSING),
        )
    return rows


def _next(view: QuestionView) -> list[tuple[str, str, str]]:
    name = clean(view.question)[:SHORT]
    commands = []
    if view.answers:
        latest = view.answers[0]
        commands.append(("one of its latest answers", "events.trace", f"{name} --attempt 0"))
        chosen = f"{name} --answers {one_line(latest.stream)}:{latest.version} --attempt 0"
        commands.append(("of answers that you name", "events.trace", chosen))
    for row in view.appearances[:1]:
        if row.seat is not None:
            proposal = f"--answers {one_line(row.stream)}:{row.version} --attempt 0"
            commands.append(("what the teacher wrote", "events.trace", proposal))
        if row.goalpost is not None:
            commands.append(("its goalpost", "events.trace", clean(row.goalpost)[:SHORT]))
    return commands
