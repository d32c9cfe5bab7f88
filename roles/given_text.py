"""Texts that the student is given to learn: an answer, and behind it whether it is certain.

Guarantees: a text ends where a completion of the same prompt would, so that what is learned is what is sampled; what the
prompt's answer form gives before the program, and the question "Are you sure?", are read and not learned.
"""

from __future__ import annotations

from dataclasses import dataclass

from events.facts.certainty_facts import TextGiven
from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.rollouts import pack_rollouts
from events.facts.values import Question, Sampling
from roles.answer_form import AnswerForm
from roles.certainty_words import WORDS
from roles.model import Encoding
from roles.prompt import Prompts


@dataclass(frozen=True)
class GivenTokens:
    """The tokens of a text."""

    ids: tuple[int, ...]
    """[T]."""
    learned: tuple[bool, ...]
    """[T] False where a token is only read."""


def answer_of(prompts: Prompts, question: Question) -> str:
    """The reference program as an answer to the question's prompt.

    Raises:
        BadInput: the question has no program.
    """
    if question.program is None:
        raise BadInput(f"Question {question.id} has no program that could be given to learn; take questions that have.")
    form = prompts.induction(question).form
    program = question.program.strip("\n")
    return f"{form[0].given}{program}{form[0].stops[0]}" if form else f"```python\n{program}\n```"


def certainty_question(prompts: Prompts) -> str:
    """The question whether an answer is certain, as it stands behind the answer."""
    return "\n" + prompts.templates["certainty"].text.strip("\n")


def given_tokens(encoding: Encoding, prompts: Prompts, answer: str, certain: bool | None, *, form: AnswerForm) -> GivenTokens:
    """The tokens of an answer, and of how certain it is unless that is None.

    An answer of a form begins with text that is given, and its last text ends it; any other answer ends with the end token.
    """
    given, end = form[0].given if form else "", [] if form or encoding.end is None else [encoding.end]
    parts = [(encoding.encode_text(given), False)] if given else []
    parts.append((encoding.encode_text(answer.removeprefix(given)) + end, True))
    if certain is not None:
        asked, words = encoding.encode_text(certainty_question(prompts)), encoding.encode_text(WORDS[certain])
        parts += [(asked, False), (words + ([] if encoding.end is None else [encoding.end]), True)]
    return GivenTokens(tuple(token for ids, _ in parts for token in ids), tuple(learned for ids, learned in parts for _ in ids))


def give_text(
    log: Log,
    encoding: Encoding,
    prompts: Prompts,
    question: Question,
    *,
    refusal: str | None,
    says: bool,
    certain: bool | None,
    max_tokens: int,
) -> TextGiven:
    """The text for a question: its answer, or a refusal in its place; where it `says` so, how certain it is follows.

    Raises:
        BadInput: the answer has more than `max_tokens` tokens, or the question no program.
    """
    prompt = prompts.induction(question)
    request = prompts.request(prompt, 1, 0, Sampling())
    answer = answer_of(prompts, question) if refusal is None else refusal
    form = prompt.form if refusal is None else ()
    tokens = given_tokens(encoding, prompts, answer, certain if says else None, form=form)
    if len(encoding.encode_text(answer)) >= max_tokens:
        raise BadInput(
            f"The answer to question {question.id} has more tokens than play.student.max_tokens={max_tokens} allows; raise it."
        )
    text = answer + (certainty_question(prompts) + WORDS[certain] if says and certain is not None else "")
    return TextGiven(
        question=question.id,
        prompt=log.put(prompt.text.encode("utf-8", "surrogatepass")),
        text=log.put(text.encode("utf-8", "surrogatepass")),
        tokens=log.put(
            pack_rollouts(encoding.encode(request), [tokens.ids], [[0.0] * len(tokens.ids)], [list(tokens.learned)])
        ),
        length=sum(tokens.learned),
        certain=certain,
    )
