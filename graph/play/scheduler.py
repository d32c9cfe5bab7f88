"""The contract of a pace, which the setting `play.order` names: when the calls of walks reach the model and the sandbox.

Law: a walk asks what `model` and `runner` gave back, and nothing else. Implementations: `graph.play.lockstep`,
`graph.play.concurrent`.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Literal, Protocol

from events.process.activity import Activity
from graph.play.concurrent import Free
from graph.play.lockstep import Lockstep
from graph.play.resumed_calls import Past
from roles.model import Model
from sandbox.runner import Runner


class Pace(Protocol):
    """Plays walks."""

    activity: Activity
    """Where it says what is going on."""

    async def play(self, walks: Sequence[Coroutine[Any, Any, None]], past: Sequence[Past] = ()) -> None:
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


def pace(order: Literal["lockstep", "free"], activity: Activity | None = None) -> Pace:
    """The pace that a setting names."""
    return Lockstep(activity) if order == "lockstep" else Free(activity)
