"""The edges: where an episode goes next, as a pure function of its state.

Law: no log, no clock, no chance. The same function is the entry for a fresh episode and for one that a crash broke off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from events.values import Seat
from graph.state import Episode, PlayState

Node = Literal["goalpost_gap", "teacher_easy", "teacher_hard", "solver", "verifier"]
Next = Node | Literal["__end__"]

NEXT: dict[str, tuple[Next, ...]] = {
    "__start__": ("solver", "verifier", "goalpost_gap", "teacher_easy", "teacher_hard", "__end__"),
    "goalpost_gap": ("teacher_easy", "__end__"),
    "teacher_easy": ("verifier",),
    "teacher_hard": ("verifier",),
    "solver": ("verifier",),
    "verifier": ("goalpost_gap", "teacher_easy", "teacher_hard", "solver", "__end__"),
}
"""Where each node may lead. LangGraph refuses any other step. A start leads to `solver`, a resume to wherever it broke off."""


def route(max_attempts: int, solved_at: float) -> Callable[[PlayState], Next]:
    """The edge function for these settings."""

    def next_node(state: PlayState) -> Next:
        return after(state["episode"], max_attempts, solved_at)

    return next_node


def after(episode: Episode, max_attempts: int, solved_at: float) -> Next:
    """Which node plays next, `__end__` when the episode is over."""
    if episode.ended:
        return "__end__"
    if episode.proposal is not None or episode.pending:
        return "verifier"
    if episode.purpose == "practice":
        return "__end__" if episode.attempted else "solver"
    if episode.gap is None:
        return "goalpost_gap" if episode.attempted else "solver"
    if closed(episode.gap, solved_at):
        return "__end__"
    if episode.candidate is not None:
        return "solver"
    if proposing(episode, max_attempts):
        return "teacher_easy" if episode.seat == "easy" else "teacher_hard"
    return "solver" if episode.unsolved else "__end__"


def closed(gap: float, solved_at: float) -> bool:
    """Whether a goalpost is closed; with room for 1 - 0.9 being a little less than a tenth."""
    return 1 - gap >= solved_at - 1e-9


def proposing(episode: Episode, max_attempts: int) -> bool:
    """Whether the seat whose turn it is still owes a question and has proposals left."""
    done: dict[Seat, int] = {"easy": 1, "hard": 2}
    return len(episode.accepted) < done[episode.seat] and episode.proposals.get(episode.seat, 0) < max_attempts


def ending(episode: Episode, solved_at: float) -> Literal["played", "goalpost_solved", "no_lemma", "no_lift"]:
    """Why an episode whose next node is `__end__` is over."""
    if episode.purpose == "practice" or len(episode.accepted) == 2:
        return "played"
    if episode.gap is not None and closed(episode.gap, solved_at):
        return "goalpost_solved"
    return "no_lift" if episode.accepted else "no_lemma"
