"""One attempt, with each token and each test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.errors import BadInput
from events.projections.answer_detail import CompletionDetail, completion_detail
from events.pure.test_outcomes import JudgedTest, judged_tests
from events.text.diff import DiffLine, diff_lines
from events.web.view.not_there import NotFound
from events.web.view.page import Page, PageRequest
from events.web.view.token_classes import ADVANTAGE_STEPS, PROBABILITY_STEPS, ColourStep

TOKENS: Final = 800
"""Tokens on a page."""
COMPARED: Final = 5_000
"""Characters of a program that are compared."""


@dataclass(frozen=True)
class AttemptPage:
    """An attempt, and what its verdict says of each test."""

    story: CompletionDetail
    tests: list[JudgedTest]
    changes: list[DiffLine]
    """How a wrong program differs from the reference; empty where it does not, or where there are not both."""
    colour: str
    """What tokens are coloured by: `logprob` or `advantage`."""
    legend: tuple[ColourStep, ...]
    """What the colours mean."""
    first: int
    """The first token that is shown ..."""
    until: int
    """... and the one behind the last."""


def page(asked: PageRequest) -> Page:
    """See the module."""
    run, path = asked.run, asked.path
    try:
        story = completion_detail(run.log, run.where, path["stream"], parse_index(path["version"]), parse_index(path["index"]))
    except BadInput as error:
        raise NotFound(str(error)) from error
    first = min(asked.whole("token", 0) or 0, max(0, len(story.ids) - 1))
    colour = "advantage" if asked.query.get("colour") == "advantage" else "logprob"
    model = AttemptPage(
        story,
        _tests(story),
        _changes(story),
        colour,
        ADVANTAGE_STEPS if colour == "advantage" else PROBABILITY_STEPS,
        first,
        min(len(story.ids), first + TOKENS),
    )
    kind = "Proposal" if story.proposal is not None else "Attempt"
    return Page("attempt.html", f"{kind} {story.index} of {story.stream}:{story.version}", model)


def _changes(story: CompletionDetail) -> list[DiffLine]:
    if story.reference is None or story.program is None:
        return []
    lines = diff_lines(story.reference[:COMPARED], story.program[:COMPARED])
    return lines if any(line.mark != " " for line in lines) else []


def parse_index(text: str) -> int:
    """A place in an address.

    Raises:
        NotThere: it is no whole number.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotFound(f"{text!r} in the address is no whole number; begin at a question and follow its answers")
    return int(text)


def _tests(story: CompletionDetail) -> list[JudgedTest]:
    if story.question is None or story.proposal is not None:
        return []
    question, per_test = story.question, story.provenance is not None and story.provenance.per_test
    return judged_tests(question.pairs, len(question.public), story.verdict, per_test=per_test, only=story.pair)
