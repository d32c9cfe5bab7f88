"""Finds the question set that a policy is evaluated on."""

from __future__ import annotations

from pathlib import Path

from events.facts.errors import BadInput
from graph.settings.config import Config
from graph.setup.run_inputs import passable_questions
from roles.questions.load import load_questions
from roles.questions.question_set import QuestionList, QuestionSet, Split


def question_set(config: Config, name: str, weights: Path) -> QuestionSet:
    """A question set by its name in the settings or any other, without questions that no completion could pass.

    Raises:
        BadInput: there is no such set, or a record is wrong.
    """
    goalposts: tuple[str, Split] = (config.goalposts, "goalposts")
    sets: dict[str, tuple[str, Split]] = {
        "goalposts": goalposts,
        "practice": goalposts if config.practice == "goalposts" else (config.practice, "train"),
        "test": (config.test, "test"),
        "validation": (config.validation, "validation"),
    }
    spec, split = sets.get(name, (name, "test"))
    if name in sets and spec == "none":
        raise BadInput(f"The run has no {name} set; name another one with --set.")
    loaded = load_questions(spec, split)
    label = name if name in sets else loaded.name
    questions = QuestionList(label, loaded.questions, loaded.left_out, loaded.rules, loaded.names)
    return passable_questions(config, questions, label, lambda: weights)
