"""Strata of the pocket world's test set: questions in the region of the goalposts, and others."""

from __future__ import annotations

from collections.abc import Sequence

from events.facts.values import QuestionId
from roles.pocket.world import read_statement
from roles.questions.load import load_questions


def question_strata(questions: Sequence[QuestionId]) -> dict[str, list[int]]:
    """Indices of the questions by stratum; empty for questions that are not the pocket world's."""
    statements = {question.id: question.statement for question in load_questions("pocket", "test").questions}
    if not questions or not statements.keys() >= set(questions):
        return {}
    strata: dict[str, list[int]] = {"target region": [], "elsewhere": []}
    for index, question in enumerate(questions):
        strata["target region" if _in_target_region(statements[question]) else "elsewhere"].append(index)
    return {name: indices for name, indices in strata.items() if indices}


def _in_target_region(statement: str) -> bool:
    """Whether all rare operations are of the region that goalposts are made of."""
    rare = [step.operation for step in read_statement(statement) or () if step.operation.rare]
    return bool(rare) and all(operation.target for operation in rare)
