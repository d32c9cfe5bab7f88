"""Given texts: which text each training question's episode gives the student, by what an earlier stage's answers showed.

Guarantees: the result depends only on the run's seed and on what earlier iterations left in the log.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.facts.certainty_facts import TextGiven
from events.facts.errors import GaspError
from events.facts.log import Log
from events.facts.streams import is_episode, iteration_of
from events.facts.types import AttemptsMade, AttemptsVerified
from events.facts.values import Question, QuestionId
from events.pure.answer_parsing import Malformed, parse_program
from events.pure.program_structure import structure_hash
from graph.play.context import NodeContext
from graph.recipes.recipe import GivenTexts
from graph.settings.seeds import seeded_rng
from roles.generation_record import completion_texts
from roles.given_text import give_text


@dataclass(frozen=True)
class SurveyedAnswers:
    """The answers to a training question before anything was learned."""

    passed: bool
    """Whether the first one passed."""
    entropy: float
    """Of the answers, in nats: 0 where all are equal."""


def surveyed_answers(log: Log, iteration: int) -> dict[QuestionId, SurveyedAnswers]:
    """The answers to each training question in the iterations before this one, in the order of their streams."""
    made: dict[tuple[str, int], AttemptsMade] = {}
    passed: dict[tuple[str, int], bool] = {}
    for event in log.read(kinds=("attempts_made", "attempts_verified")):
        if not is_episode(event.stream) or iteration_of(event.stream) >= iteration:
            continue
        match event.fact:
            case AttemptsMade(purpose="practice") as fact:
                made[event.stream, event.version] = fact
            case AttemptsVerified(of=of, verdicts=verdicts) if (event.stream, of) in made:
                passed[event.stream, of] = verdicts[0].outcome == "passed"
    return {
        made[place].question: SurveyedAnswers(passed[place], _entropy(completion_texts(log, made[place].generation)))
        for place in sorted(passed)
    }


def _entropy(texts: Sequence[str]) -> float:
    programs = [parse_program(text) for text in texts]
    # An answer without a program is equal to no other.
    counts = Counter(
        str(number) if isinstance(program, Malformed) else structure_hash(program) for number, program in enumerate(programs)
    )
    return -sum(count / len(texts) * math.log(count / len(texts)) for count in counts.values())


def certain_questions(texts: GivenTexts, answers: Mapping[QuestionId, SurveyedAnswers]) -> dict[QuestionId, bool]:
    """Of each surveyed question whether its answer is certain.

    Raises:
        GaspError: all are, or none is.
    """
    if texts.certain == "agreeing":
        ranked = sorted(answers, key=lambda question: answers[question].entropy)
        certain = {question: number < len(ranked) // 2 for number, question in enumerate(ranked)}
    else:
        certain = {question: answer.passed for question, answer in answers.items()}
    if len(set(certain.values())) < 2:
        how = "All" if any(certain.values()) else "None"
        raise GaspError(
            f"{how} of the {len(certain)} training questions that the student answered are certain, so that it cannot learn to"
            f" tell; start a new run with {'harder' if how == 'All' else 'easier'} or more questions (practice)."
        )
    return certain


def given_text(context: NodeContext, texts: GivenTexts, question: Question, certain: bool | None, seed: int) -> TextGiven:
    """The text that an episode gives; BadInput if it is too long, or there is none."""
    refusal = seeded_rng(seed, "refusal").choice(texts.refusals) if texts.refusals and certain is False else None
    return give_text(
        context.log,
        context.solver.model.encoding,
        context.solver.prompts,
        question,
        refusal=refusal,
        says=texts.says_certainty,
        certain=certain,
        max_tokens=context.play.student.max_tokens,
    )
