"""The edges: an episode's next node as a pure function of its state and the recipe's episode plan.

The same function finds the entry of a fresh episode and of one that a crash interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from events.facts.values import Seat, Task
from graph.play.state import AcceptedQuestion, EpisodeState, PlayState, trains_on_pass_rate_attempts
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import PlaySettings

Node = Literal["goalpost_gap", "teacher_easy", "teacher_hard", "teacher_open", "solver", "verifier"]
Next = Node | Literal["__end__"]

SUCCESSORS: dict[str, tuple[Next, ...]] = {
    "__start__": ("solver", "verifier", "goalpost_gap", "teacher_easy", "teacher_hard", "teacher_open", "__end__"),
    "goalpost_gap": ("teacher_easy", "__end__"),
    "teacher_easy": ("verifier",),
    "teacher_hard": ("verifier",),
    "teacher_open": ("verifier",),
    "solver": ("verifier",),
    "verifier": ("goalpost_gap", "teacher_easy", "teacher_hard", "teacher_open", "solver", "__end__"),
}
"""Where each node may lead; LangGraph refuses any other step. A fresh episode starts at `solver` or at the open seat, a resumed
one where it was interrupted."""
TEACHER_NODES: dict[Seat, Node] = {"easy": "teacher_easy", "hard": "teacher_hard", "open": "teacher_open"}
"""Each seat's node."""


def route(settings: PlaySettings, plan: EpisodePlan) -> Callable[[PlayState], Next]:
    """The edge function for these settings and this plan."""

    def next_node(state: PlayState) -> Next:
        return successor(state["episode"], settings, plan)

    return next_node


def successor(episode: EpisodeState, settings: PlaySettings, plan: EpisodePlan) -> Next:
    """The next node; `__end__` when the episode is over."""
    plan = plan.at(episode.iteration)
    if episode.ended:
        return "__end__"
    if episode.proposal is not None or episode.pending:
        return "verifier"
    if episode.purpose == "practice":
        return "__end__" if episode.attempted else "solver"
    if episode.purpose == "guided":
        if episode.gap is None:
            return "goalpost_gap" if episode.attempted else "solver"
        if is_solved(episode.gap, settings.solved_at):
            return "__end__"
    if episode.candidate is not None:
        return "solver"
    seat = next_seat(episode, settings.max_attempts, plan)
    if seat is not None:
        return TEACHER_NODES[seat]
    return "solver" if questions_to_solve(episode, plan, settings.tasks) else "__end__"


def is_solved(gap: float, solved_at: float) -> bool:
    """Whether a goalpost counts as solved; the tolerance is for 1 - 0.9 being a little less than a tenth."""
    return 1 - gap >= solved_at - 1e-9


def next_seat(episode: EpisodeState, max_attempts: int, plan: EpisodePlan) -> Seat | None:
    """The seat that still has to get a question accepted and has proposals left; None where there is none."""
    if has_all_questions(episode, plan):
        return None
    seat = plan.seats(episode.purpose)[len(episode.accepted)]
    most = max_attempts if plan.rejection_sampling else 1
    return seat if episode.proposals.get(seat, 0) < most else None


def has_all_questions(episode: EpisodeState, plan: EpisodePlan) -> bool:
    """Whether every seat has had a question accepted."""
    return len(episode.accepted) == len(plan.seats(episode.purpose))


def questions_to_solve(episode: EpisodeState, plan: EpisodePlan, tasks: Sequence[Task]) -> list[AcceptedQuestion]:
    """Accepted questions that the student still has to answer in the task drawn for training."""
    return [
        accepted
        for accepted in episode.unsolved
        if accepted.seat in plan.student_trains_on and not trains_on_pass_rate_attempts(episode.seed, accepted.seat, tasks)
    ]


def end_reason(
    episode: EpisodeState, solved_at: float, plan: EpisodePlan
) -> Literal["played", "goalpost_solved", "no_lemma", "no_lift", "no_question"]:
    """Why an episode whose next node is `__end__` is over."""
    plan = plan.at(episode.iteration)
    if has_all_questions(episode, plan):
        return "played"
    if episode.purpose == "unguided":
        return "no_question"
    if episode.gap is not None and is_solved(episode.gap, solved_at):
        return "goalpost_solved"
    return "no_lift" if episode.accepted else "no_lemma"
