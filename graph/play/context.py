"""What nodes may use: the log, the roles, the recipe and the settings, as LangGraph's runtime context.

It holds no state of an episode. `novelty` is the one fold that episodes share; it is rebuilt from the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from events.facts.log import Event, Log, read_facts
from events.facts.questions import read_question
from events.facts.streams import iteration_of
from events.facts.types import QuestionAccepted
from events.facts.values import Question
from events.projections.run_summary import AcceptedQuestions, fold
from graph.recipes.recipe import EpisodePlan, Recipe
from graph.settings.config import PlaySettings
from graph.settings.document_settings import DocumentSettings
from roles.judging.grounding import Grounding
from roles.judging.similarity import Novelty
from roles.judging.vote import Ties
from roles.solver import Solver
from roles.teacher import Teacher
from roles.verifier import Verifier


@dataclass(frozen=True)
class NodeContext:
    """Everything that nodes may use."""

    log: Log
    teacher: Teacher
    solver: Solver
    verifier: Verifier
    novelty: Novelty
    recipe: Recipe
    play: PlaySettings
    similarity: float
    """Cosine above which a proposal is not novel."""
    ties: Ties = "none"
    """Who wins a vote where the two largest groups are equal."""
    documents: DocumentSettings = field(default_factory=DocumentSettings)
    grounded: Grounding | None = None
    """Decides whether a proposal is grounded in its document; None: all are."""

    def plan(self, iteration: int) -> EpisodePlan:
        """The stage of the recipe's plan that holds in an iteration."""
        return self.recipe.plan.at(iteration)


def restore_novelty(log: Log, novelty: Novelty) -> None:
    """Fill the novelty buffers with every question that the log says was accepted."""
    accepted = fold(AcceptedQuestions(), log.read(kinds={"question_accepted"}))
    novelty.add(*(read_question(log, blob) for blob in (*accepted.easy, *accepted.hard, *accepted.open)))


def accepted_in(log: Log, streams: Sequence[str]) -> Iterator[Question]:
    """The questions that episodes had accepted, in the order of their streams."""
    for stream in streams:
        for fact in read_facts(log, QuestionAccepted, stream):
            yield read_question(log, fact.blob)


def accepted_by_iteration(log: Log, until: int) -> dict[int, list[Question]]:
    """The questions that each iteration up to `until` has accepted, in the order of streams and versions."""
    accepted: dict[int, list[Event]] = {}
    for event in log.read(kinds={"question_accepted"}):
        if (iteration := iteration_of(event.stream)) <= until:
            accepted.setdefault(iteration, []).append(event)
    return {
        iteration: [
            read_question(log, event.fact.blob)
            for event in sorted(accepted[iteration], key=lambda event: (event.stream, event.version))
            if isinstance(event.fact, QuestionAccepted)
        ]
        for iteration in sorted(accepted)
    }
