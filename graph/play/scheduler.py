"""The contract of a pace, which the setting `play.order` names: when the calls of walks reach the model and the sandbox.

Law: a walk asks what `model` and `runner` gave back, and nothing else. Implementations: `graph.play.lockstep`,
`graph.play.concurrent`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, Protocol

from events.process.activity import Activity
from graph.play.concurrent import Concurrent
from graph.play.lockstep import Lockstep
from graph.play.resumed_calls import EarlierCalls
from roles.model import Model
from sandbox.runner import Runner


class Scheduler(Protocol):
    """Plays walks."""

    activity: Activity
    """Where it says what is going on."""

    async def play(self, walks: Sequence[Coroutine[Any, Any, None]], past: Sequence[EarlierCalls] = ()) -> None:
        """Play all walks to their end.

        Args:
            walks: what is played.
            past: what each of them has asked before, if a run goes on.

        Raises:
            BaseException: the first one that a walk or a call raised; the other walks are cancelled first.
        """
        ...

    def model(self, model: Model) -> Model:
        """The model as walks ask it."""
        ...

    def runner(self, runner: Runner) -> Runner:
        """The sandbox as walks ask it."""
        ...


def make_scheduler(order: Literal["lockstep", "free"], activity: Activity | None = None) -> Scheduler:
    """The pace that a setting names."""
    return Lockstep(activity) if order == "lockstep" else Concurrent(activity)
