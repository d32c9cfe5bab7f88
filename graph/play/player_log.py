"""The log as one of several players sees it: its appends to shared streams bear its name, and others' are noticed.

Guarantees: what another player appends to a stream while this one plays it raises `Conflict`; so of two players of one share,
only one goes on, and an append is never answered by facts that came out of batches of another shape.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from events.facts.errors import Conflict
from events.facts.log import Event, Log
from events.facts.streams import is_shared
from events.projections.players import OBSERVED_PLAYER
from events.stores.patient import OUTAGE_S, PatientLog
from events.stores.transaction import AppendRequest


def player_name() -> str:
    """A name of this process that no other has: host, process id and four random digits."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"


class PlayerLog(PatientLog):
    """The log of a player."""

    def __init__(self, inner: Log, player: str, *, outage_s: float = OUTAGE_S) -> None:
        """See `PatientLog`; `player` is the name."""
        super().__init__(inner, outage_s=outage_s)
        self.player = player

    def recorded(self, stream: str, key: str) -> list[Event] | None:
        """See `events.facts.log.Log.recorded`; Conflict if another player appended them."""
        events = super().recorded(stream, key)
        return events if events is None else self._own(stream, events)

    def own_version(self, stream: str, after: int) -> int:
        """The stream's version, if all events behind the version `after` are this player's; Conflict otherwise."""
        events = list(self.read(stream))
        self._own(stream, events[after:])
        return len(events)

    def _append(self, request: AppendRequest) -> list[Event]:
        return self._own(request.stream, super()._append(self._named(request)))

    def _submit(self, request: AppendRequest) -> Future[list[Event]]:
        outcome: Future[list[Event]] = Future()

        def settle(appended: Future[list[Event]]) -> None:
            try:
                outcome.set_result(self._own(request.stream, appended.result()))
            except BaseException as error:
                outcome.set_exception(error)

        super()._submit(self._named(request)).add_done_callback(settle)
        return outcome

    def _named(self, request: AppendRequest) -> AppendRequest:
        if not is_shared(request.stream):
            return request
        return replace(request, observed={**(request.observed or {}), OBSERVED_PLAYER: self.player})

    def _own(self, stream: str, events: Sequence[Event]) -> list[Event]:
        """The events; Conflict if another player appended one. Only the first of an append bears a name."""
        if is_shared(stream):
            for event in events:
                if (player := event.observed.get(OBSERVED_PLAYER, self.player)) != self.player:
                    raise Conflict(f"The stream {stream} is played by {player}, too; leave it to that player.")
        return list(events)
