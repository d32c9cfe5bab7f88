"""A prompt with all its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from events.facts.log import Event, ReadableLog
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, QuestionProposed, RewardGiven
from events.facts.values import Digest, Verdict
from events.index.rows import AppearanceEntry
from events.index.rows import AttemptsEntry as Asking
from events.text.safe_text import one_line
from events.web.pages.attempt import parse_index
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 100
"""Answers on a page."""
BEGINNING: Final = 120
"""Characters of an answer in a list."""
_FENCE: Final = "```"


@dataclass(frozen=True)
class AnswerRow:
    """One of the answers."""

    index: int
    beginning: str
    """Of the completion, without its fences, its lines behind one another."""
    tokens: int
    same_as: int | None
    """The first answer with the same text, where this one repeats it."""
    verdict: Verdict | None
    reward: float | None


@dataclass(frozen=True)
class AnswersPage:
    """A prompt and its answers."""

    stream: str
    version: int
    asking: Asking | None
    """What is known about all of them together; None where the teacher was asked ..."""
    proposal: AppearanceEntry | None
    """... and wrote this."""
    policy: Digest
    """Who answered."""
    prompt: str
    answers: list[AnswerRow]
    """Those on this page."""
    count: int
    different: int
    """How many different texts the answers have."""
    first: int
    """The first answer that is shown."""


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, stream, version = request.run, request.params["stream"], parse_index(request.params["version"])
    asking, proposal = run.index.answers_at(stream, version), run.index.appearance(stream, version)
    known = asking or proposal
    events = list(_about(run.log, stream, version, known.position)) if known is not None else []
    made = events[0].fact if events else None
    if not isinstance(made, AttemptsMade | QuestionProposed):
        where = f"Nothing was answered at version {version} of {stream!r}, as far as the log is read"
        raise NotFound(f"{where}; begin at a question and follow its answers.")
    texts = [str(text) for text in json.loads(run.log.get(made.generation.texts))]
    prompt = run.log.get(made.generation.prompt).decode("utf-8", "surrogatepass")
    first = request.integer("first", 0) or 0
    lengths = [len(ids) for ids in unpack_rollouts(run.log.get(made.generation.tokens)).ids]
    rows = _answers(texts, lengths, events)
    model = AnswersPage(
        stream,
        version,
        asking,
        None if asking is not None else proposal,
        made.generation.policy,
        prompt,
        rows[first : first + ROWS],
        len(rows),
        len(set(texts)),
        first,
    )
    return Page("answers.html", f"Answers {stream}:{version}", model)


def _about(log: ReadableLog, stream: str, version: int, position: int) -> Iterator[Event]:
    """What was answered, and the verdicts and rewards it got."""
    for event in log.read(stream, after=position - 1):
        match event.fact:
            case AttemptsVerified(of=of) | RewardGiven(of=of) if of == version:
                yield event
            case _ if event.position == position:
                yield event


def _answers(texts: list[str], lengths: list[int], events: list[Event]) -> list[AnswerRow]:
    verdicts: dict[int, Verdict] = {}
    rewards: dict[int, float] = {}
    for event in events:
        match event.fact:
            case AttemptsVerified(verdicts=found):
                verdicts = dict(enumerate(found))
            case RewardGiven(rewards=given):
                rewards = dict(enumerate(given))
    first: dict[str, int] = {}
    return [
        AnswerRow(
            index,
            _beginning(text),
            lengths[index],
            None if first.setdefault(text, index) == index else first[text],
            verdicts.get(index),
            rewards.get(index),
        )
        for index, text in enumerate(texts)
    ]


def _beginning(text: str) -> str:
    lines = [line for line in (one_line(line) for line in text[: 4 * BEGINNING].split("\n")) if line]
    return one_line(" ⏎ ".join(line for line in lines if not line.startswith(_FENCE)), BEGINNING)
