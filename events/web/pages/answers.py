"""A prompt with all its completions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from events.facts.log import Event, ReadableLog
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified, QuestionProposed, RewardGiven
from events.facts.values import Verdict
from events.text.safe_text import one_line
from events.web.pages.attempt import parse_index
from events.web.view.not_found import NotFound
from events.web.view.page import Page, PageRequest

ROWS: Final = 100
"""Answers on a page."""
BEGINNING: Final = 120
"""Characters of a completion in the list."""
_FENCE: Final = "```"


@dataclass(frozen=True)
class AnswerRow:
    """One completion."""

    index: int
    beginning: str
    tokens: int
    same_as: int | None
    """Index of the first completion with the same text, where this one repeats it."""
    verdict: Verdict | None
    reward: float | None


def page(request: PageRequest) -> Page:
    """Make the page."""
    run, stream, version = request.run, request.params["stream"], parse_index(request.params["version"])
    attempts, proposal = run.index.answers_at(stream, version), run.index.appearance(stream, version)
    entry = attempts or proposal
    events = list(_about(run.log, stream, version, entry.position)) if entry is not None else []
    fact = events[0].fact if events else None
    if not isinstance(fact, AttemptsMade | QuestionProposed):
        where = f"Nothing was answered at version {version} of {stream!r}, as far as the log is read"
        raise NotFound(f"{where}; begin at a question and follow its answers.")
    texts = [str(text) for text in json.loads(run.log.get(fact.generation.texts))]
    first = request.integer("first", 0) or 0
    lengths = [len(ids) for ids in unpack_rollouts(run.log.get(fact.generation.tokens)).ids]
    rows = _answers(texts, lengths, events)
    model = {
        "stream": stream,
        "version": version,
        "attempts": attempts,
        "proposal": None if attempts is not None else proposal,
        "policy": fact.generation.policy,
        "prompt": run.log.get(fact.generation.prompt).decode("utf-8", "surrogatepass"),
        "answers": rows[first : first + ROWS],
        "count": len(rows),
        "different": len(set(texts)),
        "first": first,
    }
    return Page("answers.html", f"Answers {stream}:{version}", model)


def _about(log: ReadableLog, stream: str, version: int, position: int) -> Iterator[Event]:
    """The event with the completions, then their verdicts and rewards."""
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
            case AttemptsVerified(verdicts=judged):
                verdicts = dict(enumerate(judged))
            case RewardGiven(rewards=values):
                rewards = dict(enumerate(values))
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
