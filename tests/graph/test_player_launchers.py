"""Players that a run starts itself: what the option says, which GPUs each gets, and when one is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.process.activity import Activity
from graph.settings.config import Config
from graph.setup import player_supervisor
from graph.setup.local_players import LocalPlayers, gpus_for_players
from graph.setup.player_launchers import PlayerRequest, make_launcher, parse_players
from graph.setup.player_supervisor import PlayerEnd, PlayerSupervisor

SHARED = Config(play={"shares": 4})


def test_the_option_is_a_number_or_a_cluster():
    assert parse_players("4") == PlayerRequest("", 4)
    assert parse_players("ray://head:10001") == PlayerRequest("ray://head:10001", 0)
    assert parse_players("ray://10.0.0.1:10001/16") == PlayerRequest("ray://10.0.0.1:10001", 16)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "four", "1.5", "ray://", "ray://head", "ray://head:10001/", "ray://head:1/0", "4/ray://a:1"]
)
def test_anything_else_is_one_sentence(text):
    with pytest.raises(BadInput, match=r"is neither a number, such as 4, nor a Ray cluster"):
        parse_players(text)


def test_what_cannot_have_players_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(BadInput, match=r"one share is played by one process; start it with --set play.shares=4"):
        make_launcher(PlayerRequest("", 2), tmp_path, Config(), tmp_path / "log.sqlite", None)
    with pytest.raises(BadInput, match=r"a log in SQLite on one; start the run with --log"):
        make_launcher(PlayerRequest("ray://head:10001", 2), tmp_path, SHARED, tmp_path / "log.sqlite", None)
    with pytest.raises(
        BadInput, match=r"cannot fetch weights from http://0.0.0.0:8300; give --serve-weights this machine's address"
    ):
        make_launcher(
            PlayerRequest("ray://head:10001", 2), tmp_path, SHARED, "postgresql://head/db?run=x", "http://0.0.0.0:8300"
        )


def test_every_player_of_a_machine_has_gpus_of_its_own(monkeypatch):
    served = SHARED.model_copy(update={"serve": SHARED.serve.model_copy(update={"backend": "vllm", "tensor_parallel": 2})})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5")
    assert gpus_for_players(SHARED, 2) == ["1", "2"]
    assert gpus_for_players(served, 2) == ["2,3", "4,5"]
    with pytest.raises(BadInput, match=r"The coordinator and 3 players need 8 GPUs, and there are 6; lower --players"):
        gpus_for_players(served, 3)
    named = SHARED.model_copy(update={"serve": SHARED.serve.model_copy(update={"devices": "0"})})
    with pytest.raises(BadInput, match=r"would use the same GPUs; leave it empty"):
        gpus_for_players(named, 1)


def test_players_divide_the_cores_unless_they_have_gpus_of_their_own(tmp_path):
    assert LocalPlayers(3, tmp_path, []).sharing_cores == 3
    assert LocalPlayers(2, tmp_path, ["1", "2"]).sharing_cores == 0


class FakeLauncher:
    """Players that end as a script says: the end of each that is started, None for one that runs on."""

    where = "nowhere"

    def __init__(self, ends: dict[int, list[PlayerEnd | None]]) -> None:
        self.count = len(ends)
        self.starts = dict.fromkeys(ends, 0)
        self._ends = ends

    async def start(self, number: int) -> None:
        self.starts[number] += 1

    async def end_of(self, number: int) -> PlayerEnd | None:
        return self._ends[number][self.starts[number] - 1]

    async def stop(self) -> None: ...


async def test_a_player_that_dies_is_replaced_and_one_that_is_refused_is_not(monkeypatch):
    monkeypatch.setattr(player_supervisor, "POLL_S", 0)
    monkeypatch.setattr(player_supervisor, "LONGEST_PAUSE_S", 0)
    died, refused, over = PlayerEnd(-9, "killed"), PlayerEnd(2, "other prompts"), PlayerEnd(0, "")
    launcher, activity = FakeLauncher({0: [died, died, None], 1: [refused], 2: [over]}), Activity()
    supervising = asyncio.create_task(PlayerSupervisor(launcher, activity).run())
    while launcher.starts[0] < 3:
        await asyncio.sleep(0)
    assert "3 players nowhere" in str(activity)
    assert "(1 run, 2 replaced)" in str(activity)
    supervising.cancel()
    await asyncio.wait({supervising})
    assert launcher.starts == {0: 3, 1: 1, 2: 1}
    assert [warning for warning in activity.warnings if "cannot join" in warning] == [
        "Player 1 nowhere cannot join and is not started again: other prompts"
    ]
    assert str(activity) == ""


async def test_a_launcher_that_fails_does_not_end_the_run(tmp_path: Path):
    class Broken(FakeLauncher):
        async def start(self, number: int) -> None:
            raise ConnectionError("gone")

    activity = Activity()
    await PlayerSupervisor(Broken({0: []}), activity).run()
    assert "are not replaced any more (ConnectionError: gone)" in activity.warnings[0]
