"""The scheduler contract, and the scheduler that the setting `play.order` names.

Episodes must call only the model and the runner that the scheduler wraps.
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
    """Decides when the calls of many episodes reach the model and the sandbox."""

    activity: Activity
    """Where it reports progress."""

    async def play(self, episodes: Sequence[Coroutine[Any, Any, None]], earlier: Sequence[EarlierCalls] = ()) -> None:
        """Run all episodes to their end.

        Args:
            episodes: one coroutine an episode.
            earlier: the calls that each has made before, if the run is resumed; empty otherwise.

        Raises:
            BaseException: the first one that an episode or a call raised; the other episodes are cancelled first.
        """
        ...

    def model(self, model: Model) -> Model:
        """The model as episodes must call it."""
        ...

    def runner(self, runner: Runner) -> Runner:
        """The sandbox as episodes must call it."""
        ...


def make_scheduler(order: Literal["lockstep", "concurrent"], activity: Activity | None = None) -> Scheduler:
    """The scheduler that the setting `play.order` names."""
    return Lockstep(activity) if order == "lockstep" else Concurrent(activity)
