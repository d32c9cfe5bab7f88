"""`questions`: lists the question sets, shows their questions, validates their records, and makes sets of what trials promoted.

Records are untrusted text: they are made safe for a terminal, and JSON is ASCII. Nothing is executed, and private tests are
counted, not shown.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli.app import open_run
from events.cli.output import AsJson, LogName, Printer, print_json, print_note
from events.facts.errors import BadInput
from events.facts.log import ReadableLog
from events.facts.questions import read_question
from events.facts.trial_facts import StudentPromoted
from events.facts.types import EpisodeStarted, QuestionAccepted
from events.facts.values import Question, QuestionId
from events.text.safe_text import clean, markup, one_line
from roles.prompt import Prompts
from roles.questions.load import load_questions
from roles.questions.named_sets import KEYS, SOURCES, RecordLabel, parse_spec
from roles.questions.passable import PromptWindow, unpassable_reason
from roles.questions.pocket_folders import POCKET_FOLDERS
from roles.questions.question_set import Split, save_questions
from roles.questions.records import LeftOutRecord, QuestionRecord, RecordOutcome, read_question_records
from roles.questions.spec import Values
from sandbox.runner import Limits

questions_app = typer.Typer(name="questions", help="Question sets: list, show, validate and make them.", no_args_is_help=True)

SetSpec = Annotated[str, typer.Argument(metavar="SPEC", help="A question set, as in a run's settings, or a JSONL file.")]
Use = Annotated[Split, typer.Option(help="What it is for, which chooses among the splits of pocket and mbpp.")]


@questions_app.command("list")
def list_sets(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="Count this one; all names if none.")] = None,
    split: Use = "test",
    as_json: AsJson = False,
) -> None:
    """List the names there are and what can be set for each; or count a set by mode, difficulty and platform."""
    if spec is None:
        _list_names(as_json)
        return
    counts = count_records(records_of(spec, split))
    if as_json:
        print_json({"set": spec, **counts})
        return
    for heading, by in counts.items():
        text = ", ".join(f"{name} {number}" for name, number in by.items()) if isinstance(by, dict) else str(by)
        sys.stdout.write(f"{heading}: {one_line(text) or '–'}\n")


def _list_names(as_json: bool) -> None:
    shown = Table("name", "what it is", "from", "settings", box=None, pad_edge=False, header_style="bold")
    for name, source in SOURCES.items():
        where = "hub or file" if source.on_hub else "file"
        if as_json:
            settings = {key: _takes(values) for key, values in KEYS[name].items()}
            print_json({"name": name, "about": source.about, "from": where, "settings": settings})
        shown.add_row(name, markup(source.about), where, " ".join(KEYS[name]))
    if not as_json:
        Printer().show(shown)


def _takes(values: Values) -> str | list[str]:
    if isinstance(values, tuple):
        return list(values)
    return {date: "date", int: "number"}[values]


@questions_app.command()
def show(
    spec: SetSpec,
    number: Annotated[int, typer.Option(min=1, help="Which of its questions.")] = 1,
    split: Use = "test",
    as_json: AsJson = False,
) -> None:
    """Show a question: where it comes from, statement, public pairs, program, and how many pairs are private."""
    entries = (record for record in records_of(spec, split) if isinstance(record, QuestionRecord))
    entry = next((entry for index, entry in enumerate(entries, 1) if index == number), None)
    if entry is None:
        raise BadInput(f"Question set {spec} has fewer than {number} questions; give a smaller --number.")
    question = entry.question
    facts = {"place": entry.place, **label_fields(entry.label), "question": question.id, "mode": question.mode}
    facts |= {
        "rules": entry.rules,
        "entry": question.entry,
        "public": str(len(question.public)),
        "private": str(len(question.private)),
    }
    texts = {"statement": question.statement, "context": question.context or None, "program": question.program}
    if as_json:
        print_json({**facts, **texts, "pairs": [pair.model_dump() for pair in question.public]})
        return
    for key, value in facts.items():
        sys.stdout.write(f"{key}: {one_line(value)}\n")
    for index, pair in enumerate(question.public, 1):
        texts |= {f"input {index}": pair.input, f"output {index}": pair.output}
    for heading, text in texts.items():
        if text is not None:
            sys.stdout.write(f"--- {heading}\n{clean(text)}\n")


@questions_app.command()
def validate(
    spec: SetSpec,
    split: Use = "test",
    most: Annotated[int, typer.Option(min=1, help="Stop after so many bad records.")] = 100,
    output_kb: Annotated[int, typer.Option(min=1, help="What a run will have as verify.output_kb.")] = Limits().output_kb,
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Look whether prompts fit, by the tokenizer in this folder.")
    ] = None,
    prompts: Annotated[str, typer.Option(help="With --model: what a run will have as prompts.")] = "instruct",
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="With --model: what a run will have as this.")] = 1024,
) -> None:
    """Name file, line and field of every bad record, and every question that no attempt could pass; exit 1 if there is one."""
    good = bad = 0
    left: Counter[str] = Counter()
    window = PromptWindow(Prompts.named(prompts), max_prompt_tokens, lambda: model) if model is not None else None
    for record in records_of(spec, split):
        match record:
            case QuestionRecord() if (why := unpassable_reason(record.question, output_kb, window)) is None:
                good += 1
                continue
            case QuestionRecord():
                text = f"{record.place}: no attempt could pass it: {why}; raise that, or mend or remove the record."
            case LeftOutRecord():
                left[record.reason] += 1
                continue
            case BadInput():
                text = str(record)
        bad += 1
        sys.stdout.write(f"{one_line(text)}\n")
        if bad == most:
            print_note(f"stopped after {bad} bad records; --most raises that")
            break
    print_note(f"{good} good, {bad} bad, {left.total()} left out" + "".join(f"; {n}: {why}" for why, n in left.items()))
    if bad or not good:
        raise typer.Exit(1)


@questions_app.command()
def promoted(
    run: LogName,
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Where to write them; a file that is there is replaced.")],
) -> None:
    """Write the questions of the sets on which a student was promoted (docs/trials.md) as a set to train on."""
    with closing(open_run(run, read_only=True)) as log:
        questions = promoted_questions(log)
    if not questions:
        raise BadInput(f"{run} has promoted no student, so that no set of its questions is kept.")
    save_questions(out, questions)
    print_note(f"{len(questions)} questions in {out}")


def promoted_questions(log: ReadableLog) -> list[Question]:
    """The questions of all sets on which a student was promoted, each once, in the order in which they were asked."""
    promotions = [event.fact for event in log.read(kinds={"student_promoted"})]
    promoted_sets = {(fact.iteration, fact.set) for fact in promotions if isinstance(fact, StudentPromoted)}
    streams: set[str] = set()
    questions: dict[QuestionId, Question] = {}
    for event in log.read(kinds={"episode_started", "question_accepted"}):
        match event.fact:
            case EpisodeStarted() as fact if (fact.iteration, fact.set) in promoted_sets:
                streams.add(event.stream)
                if fact.purpose == "practice":
                    questions.setdefault(fact.question, read_question(log, fact.blob))
            case QuestionAccepted() as fact if event.stream in streams:
                questions.setdefault(fact.question, read_question(log, fact.blob))
    return list(questions.values())


def records_of(spec: str, split: Split) -> Iterator[RecordOutcome]:
    """What becomes of each record of a set; BadInput if there is no such set, or nothing can be read at all."""
    if spec in POCKET_FOLDERS:
        return (
            QuestionRecord(f"{spec}, question {n}", RecordLabel(""), q)
            for n, q in enumerate(load_questions(spec, split).questions, 1)
        )
    return read_question_records(parse_spec(spec, split))


def label_fields(label: RecordLabel) -> dict[str, str]:
    """What a label says, without what it does not say."""
    return {key: value for key, value in label._asdict().items() if value}


def count_records(records: Iterator[RecordOutcome]) -> dict[str, Any]:
    """How many questions there are, in all and of each kind, and what became of the other records."""
    total = wrong = 0
    kinds: dict[str, Counter[str]] = {name: Counter() for name in ("mode", "difficulty", "platform", "left out")}
    for record in records:
        match record:
            case QuestionRecord(label=label, question=question):
                total += 1
                for kind, value in (("mode", question.mode), ("difficulty", label.difficulty), ("platform", label.platform)):
                    kinds[kind].update([value] if value else [])
            case LeftOutRecord(reason=reason):
                kinds["left out"].update([reason])
            case BadInput():
                wrong += 1
    return {"questions": total, **{kind: dict(sorted(by.items())) for kind, by in kinds.items()}, "bad": wrong}
