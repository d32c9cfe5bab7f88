"""Strata of a test set: which of its questions lie where the goalposts do.

Law: by the structure of the pocket world's shipped questions; any other set has no strata.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.facts.values import QuestionId
from roles.pocket.world import read_statement
from roles.questions.load import load_questions


def question_strata(questions: Sequence[QuestionId]) -> dict[str, list[int]]:
    """Places of the questions by stratum; empty for questions that are not the pocket world's."""
    statements = {question.id: question.statement for question in load_questions("pocket", "test").questions}
    if not questions or not statements.keys() >= set(questions):
        return {}
    targeted = [_in_target_region(statements[question]) for question in questions]
    names = {"target region": True, "elsewhere": False}
    return {
        name: places for name, wanted in names.items() if (places := [i for i, is_so in enumerate(targeted) if is_so == wanted])
    }


def _in_target_region(statement: str) -> bool:
    """Whether all rare operations are of the region that goalposts are made of."""
    rare = [step.operation for step in read_statement(statement) or () if step.operation.rare]
    return bool(rare) and all(operation.target for operation in rare)
