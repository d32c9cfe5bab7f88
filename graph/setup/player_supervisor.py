"""Keeps the players running that a run starts itself: one that dies is replaced as long as the run lasts.

Not responsible for: what is played and recorded, which does not depend on the players.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

from events.facts.errors import BadInput
from events.process.activity import Activity
from events.text.logging import logger
from events.text.phrases import counted

POLL_S: Final = 0.5
"""Seconds between looks at the players."""
LONGEST_PAUSE_S: Final = 60.0
"""The pause before a dead player is replaced doubles from 1 s to this, and begins anew with one that lived longer."""
GRACE_S: Final = 15.0
"""Seconds that players get to end, with their model servers, after SIGTERM."""


@dataclass(frozen=True)
class PlayerEnd:
    """How a player ended."""

    code: int
    """Return code of its process; negative: minus the signal that killed it."""
    reason: str


class PlayerLauncher(Protocol):
    """Starts players somewhere."""

    count: int
    """How many players it keeps, with the numbers from 0 on."""
    where: str
    """Such as `on this machine`."""
    sharing_cores: int
    """How many of them sample on the cores of this process."""

    async def start(self, number: int) -> None:
        """Start a player, which need not run at once."""
        ...

    async def end_of(self, number: int) -> PlayerEnd | None:
        """How the player that was started last under this number ended; None as long as it has not."""
        ...

    async def stop(self) -> None:
        """End all players."""
        ...


@dataclass
class _Place:
    """One of the players, and those that were started in its stead."""

    due: float | None = 0.0
    """When it is to be started; None while it runs, and once it is not started again."""
    began: float = 0.0
    deaths: int = 0
    """In a row, without one that lived for long."""
    over: bool = False


@dataclass
class PlayerSupervisor:
    """Keeps players running, and says how many do."""

    launcher: PlayerLauncher
    activity: Activity
    _places: list[_Place] = field(default_factory=list)
    _replaced: int = 0

    async def run(self) -> None:
        """Start the players, and replace those that die, until cancelled; if that fails, warn, and leave the run alone."""
        self._places = [_Place() for _ in range(self.launcher.count)]
        try:
            with self.activity.task(f"{counted(self.launcher.count, 'player')} {self.launcher.where}", note=self._note):
                while True:
                    for number, place in enumerate(self._places):
                        await self._look_after(number, place)
                    await asyncio.sleep(POLL_S)
        except Exception as error:
            logger().exception("players_failed")
            self.activity.warn(
                f"Players {self.launcher.where} are not replaced any more ({type(error).__name__}: {error}); the run goes on,"
                " see run.log."
            )

    def _note(self) -> str:
        running = sum(place.due is None and not place.over for place in self._places)
        return f"{running} run" + f", {self._replaced} replaced" * bool(self._replaced)

    async def _look_after(self, number: int, place: _Place) -> None:
        now = time.monotonic()
        if place.over:
            return
        if place.due is not None:
            if now >= place.due:
                place.due, place.began = None, now
                self._replaced += place.deaths > 0
                await self.launcher.start(number)
                logger().info("player_started", number=number, where=self.launcher.where)
        elif (end := await self.launcher.end_of(number)) is not None:
            place.over = end.code in (0, BadInput.exit_code)
            if place.over:
                if end.code:
                    self.activity.warn(
                        f"Player {number} {self.launcher.where} cannot join and is not started again: {end.reason}"
                    )
                return
            place.deaths = 1 if now - place.began > LONGEST_PAUSE_S else place.deaths + 1
            pause = min(2.0 ** (place.deaths - 1), LONGEST_PAUSE_S)
            place.due = now + pause
            self.activity.warn(f"Player {number} {self.launcher.where} ended and is replaced in {pause:.0f} s: {end.reason}")
