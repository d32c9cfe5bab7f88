"""One completion, with each token and each test."""

from __future__ import annotations

from typing import Final

from events.facts.errors import BadInput
from events.projections.completion_detail import CompletionDetail, completion_detail
from events.pure.test_outcomes import JudgedTest, judged_tests
from events.text.diff import DiffLine, diff_lines
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest
from events.web.view.token_classes import ADVANTAGE_STEPS, PROBABILITY_STEPS

TOKENS: Final = 800
"""Tokens on a page."""
COMPARED: Final = 5_000
"""Characters of a program that are compared."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, params = request.run, request.params
    version, index = parse_index(params["version"]), parse_index(params["index"])
    try:
        completion = completion_detail(run.log, run.where, params["stream"], version, index)
    except BadInput as error:
        raise NotFound(str(error)) from error
    first = min(request.integer("token", 0) or 0, max(0, len(completion.ids) - 1))
    colour = "advantage" if request.query.get("colour") == "advantage" else "logprob"
    model = {
        "completion": completion,
        "tests": _tests(completion),
        "changes": _changes(completion),
        "colour": colour,
        "legend": ADVANTAGE_STEPS if colour == "advantage" else PROBABILITY_STEPS,
        "first": first,
        "until": min(len(completion.ids), first + TOKENS),
    }
    kind = "Proposal" if completion.proposal is not None else "Attempt"
    return Page("attempt.html", f"{kind} {completion.index} of {completion.stream}:{completion.version}", model)


def _changes(completion: CompletionDetail) -> list[DiffLine]:
    if completion.reference is None or completion.program is None:
        return []
    lines = diff_lines(completion.reference[:COMPARED], completion.program[:COMPARED])
    return lines if any(line.mark != " " for line in lines) else []


def parse_index(text: str) -> int:
    """An index in an address; NotFound if it is no whole number."""
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotFound(f"The part {text!r} of the address is no whole number; begin at a question and follow its answers.")
    return int(text)


def _tests(completion: CompletionDetail) -> list[JudgedTest]:
    if completion.question is None or completion.proposal is not None:
        return []
    question, per_test = completion.question, completion.provenance is not None and completion.provenance.per_test
    return judged_tests(completion.pairs, len(question.public), completion.verdict, per_test=per_test, only=completion.pair)
