"""`prompts`: lists the prompt sets, and renders any prompt on a question.

Statements are untrusted text: they are made safe for a terminal, and JSON is ASCII.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli.output import AsJson, Printer, print_json
from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.values import Axis, Question, Sampling
from events.text.safe_text import clean, markup, one_line
from roles.model import GenerationRequest
from roles.prompt import Prompts, Rendered
from roles.prompt_set import OPTIONAL_PROMPTS, PROMPT_NAMES, shipped_sets
from roles.questions.load import load_questions
from roles.questions.question_set import Split

prompts_app = typer.Typer(name="prompts", help="Prompt sets: list them, render any prompt.", no_args_is_help=True)

_SHOWN = (*PROMPT_NAMES, *OPTIONAL_PROMPTS)
SetName = Annotated[str, typer.Argument(metavar="SET", help="A set that is shipped, or the folder of your own.")]


@prompts_app.command("list")
def list_prompts(
    sets: Annotated[list[str] | None, typer.Argument(metavar="[SET]...", help="Sets; all that are shipped if none.")] = None,
    as_json: AsJson = False,
) -> None:
    """List prompts: set, name, version, hash, form and stop texts of the set. Reading a set checks it."""
    rows = [row for name in sets or shipped_sets() for row in prompt_rows(name, Prompts.named(name))]
    for row in rows if as_json else ():
        print_json(row)
    if not as_json:
        shown = Table("set", "prompt", "version", "hash", "form", "stop", box=None, pad_edge=False, header_style="bold")
        for row in rows:
            stop = markup(" ".join(map(json.dumps, row["stop"])) or "–")
            shown.add_row(markup(row["set"], 60), row["prompt"], row["version"], row["hash"][:SHORT], row["form"], stop)
        Printer().show(shown)


def prompt_rows(name: str, prompts: Prompts) -> list[dict[str, Any]]:
    """What the list says of a set, a row a prompt."""
    rules = prompts.rules.model_dump(mode="json")
    return [
        {"set": name, "prompt": prompt, "version": template.version, "hash": template.hash, **rules}
        for prompt, template in prompts.templates.items()
    ]


@prompts_app.command()
def show(
    name: SetName,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help=f"One of {', '.join(_SHOWN)}.")],
    questions: Annotated[str, typer.Option(metavar="SPEC", help="Question set, as in a run's settings.")] = "pocket",
    number: Annotated[int, typer.Option(min=1, help="Which of its questions.")] = 1,
    axis: Annotated[Axis, typer.Option(help="What the teacher is to vary.")] = "io",
    model: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Count tokens with the tokenizer in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render a prompt on a question: the goalposts for easy, else training questions, as lemma, goalpost and reference."""
    prompts = Prompts.named(name)
    question = _question(questions, "goalposts" if prompt == "easy" else "train", number)
    rendered = _rendered(prompts, prompt, question, axis)
    row = next(each for each in prompt_rows(name, prompts) if each["hash"] == rendered.template)
    row |= {"question": question.id} | ({"tokens": _tokens(model, rendered.text, prompts.system)} if model else {})
    if as_json:
        parts = [part.model_dump(mode="json") for part in rendered.form]
        print_json({**row, "system": prompts.system, "text": rendered.text, "parts": parts})
        return
    for key, value in row.items():
        sys.stdout.write(f"{key}: {one_line(value if isinstance(value, str) else json.dumps(value))}\n")
    for heading, text in (("system", prompts.system), ("text", rendered.text)):
        if text is not None:
            sys.stdout.write(f"--- {heading}\n{clean(text)}\n")
    for part in rendered.form:
        stops = " or ".join(map(json.dumps, part.stops))
        sys.stdout.write(f"--- given, then the model writes until {stops}\n{clean(part.given)}\n")


def _question(spec: str, split: Split, number: int) -> Question:
    loaded = load_questions(spec, split).questions
    if number > len(loaded):
        raise BadInput(f"Question set {spec!r} has {len(loaded)} questions, but --number is {number}; give a smaller one.")
    return loaded[number - 1]


def _rendered(prompts: Prompts, name: str, question: Question, axis: Axis) -> Rendered:
    """The prompt as a role would ask it; deduction and abduction ask about the first pair."""
    if name in ("deduction", "abduction", "hard", "aimed", "open") and question.program is None:
        raise BadInput(
            f"Question {question.id} has no program, which {name} shows; choose others with --questions or --number."
        )
    match name:
        case "induction":
            return prompts.induction(question)
        case "deduction":
            return prompts.deduction(question.program_with_context or "", question.pairs[0])
        case "abduction":
            return prompts.abduction(question.program_with_context or "", question.pairs[0])
        case "easy":
            return prompts.easy(question, axis)
        case "hard":
            return prompts.hard(question, axis)
        case "aimed":
            return prompts.aimed(question, question, axis)
        case "open":
            return prompts.open([question], "induction")
        case _ if prompts.hashes(name):
            return _optional(prompts, name, question)
    raise BadInput(f"There is no prompt {name!r}; choose one of {', '.join(_SHOWN)}.")


def _optional(prompts: Prompts, name: str, question: Question) -> Rendered:
    """A prompt that not every set has; the question stands for the document, too."""
    match name:
        case "unpaired":
            return prompts.unpaired(question)
        case "topic":
            return prompts.topic("a list", question)
        case "document":
            return prompts.document(question, "medium")
        case "informed":
            return prompts.informed(question, question)
        case _:
            return Rendered(prompts.templates[name].text, prompts.templates[name].hash)


def _tokens(folder: Path, text: str, system: str | None) -> int:
    """How many tokens the prompt has as it is sent, uncut."""
    from roles.chat_encoding import ChatEncoding

    return len(ChatEncoding(folder, sys.maxsize).encode(GenerationRequest(text, 1, 0, Sampling(), system)))
