"""One attempt, with each token and each test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.errors import BadInput
from events.projections.answer_detail import AttemptStory, tell_attempt
from events.pure.test_outcomes import Judged, judged
from events.text.diff import Line, differences
from events.web.view.not_there import NotThere
from events.web.view.page import Asked, Page
from events.web.view.token_classes import LEARNED, LIKELY, Step

TOKENS: Final = 800
"""Tokens on a page."""
COMPARED: Final = 5_000
"""Characters of a program that are compared."""


@dataclass(frozen=True)
class Attempt:
    """An attempt, and what its verdict says of each test."""

    story: AttemptStory
    tests: list[Judged]
    changes: list[Line]
    """How a wrong program differs from the reference; empty where it does not, or where there are not both."""
    colour: str
    """What tokens are coloured by: `logprob` or `advantage`."""
    legend: tuple[Step, ...]
    """What the colours mean."""
    first: int
    """The first token that is shown ..."""
    until: int
    """... and the one behind the last."""


def page(asked: Asked) -> Page:
    """See the module."""
    run, path = asked.run, asked.path
    try:
        story = tell_attempt(run.log, run.where, path["stream"], place(path["version"]), place(path["index"]))
    except BadInput as error:
        raise NotThere(str(error)) from error
    first = min(asked.whole("token", 0) or 0, max(0, len(story.ids) - 1))
    colour = "advantage" if asked.query.get("colour") == "advantage" else "logprob"
    model = Attempt(
        story,
        _tests(story),
        _changes(story),
        colour,
        LEARNED if colour == "advantage" else LIKELY,
        first,
        min(len(story.ids), first + TOKENS),
    )
    kind = "Proposal" if story.proposal is not None else "Attempt"
    return Page("attempt.html", f"{kind} {story.index} of {story.stream}:{story.version}", model)


def _changes(story: AttemptStory) -> list[Line]:
    if story.reference is None or story.program is None:
        return []
    lines = differences(story.reference[:COMPARED], story.program[:COMPARED])
    return lines if any(line.mark != " " for line in lines) else []


def place(text: str) -> int:
    """A place in an address.

    Raises:
        NotThere: it is no whole number.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotThere(f"{text!r} in the address is no whole number; begin at a question and follow its answers")
    return int(text)


def _tests(story: AttemptStory) -> list[Judged]:
    if story.question is None or story.proposal is not None:
        return []
    question, per_test = story.question, story.provenance is not None and story.provenance.per_test
    return judged(question.pairs, len(question.public), story.verdict, per_test=per_test, only=story.pair)
