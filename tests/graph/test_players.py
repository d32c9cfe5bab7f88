"""Players as processes: one is killed, one stopped and woken, the coordinator killed and resumed; weights are those of one."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.facts.types import EpisodeFinished, PolicyServed, PolicyUpdated
from events.projections.run_summary import RunSummary, fold
from events.reports.run_overview import overview
from events.stores import open_log
from events.stores.claims import PostgresClaims
from events.stores.postgres_location import PostgresLocation
from events.web.app import make_app
from events.web.view.viewer import Viewer
from graph.display.live import _players
from graph.setup import join
from graph.setup.weights_transfer import TOKEN_VARIABLE
from tests.support.postgres_server import free_port
from tests.support.processes import all_end, finish, running, start_command, start_run, wait_until
from tests.support.ray_cluster import ray_cluster
from tests.support.viewer_client import wait_until_indexed

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SETTINGS = (
    "play.shares=4", "play.patience_s=5", "play.iterations=2", "play.episodes=3", "play.practice=3", "play.practice_attempts=4",
    "play.attempts=4", "play.gap_attempts=4", "play.max_attempts=1", "evaluate.questions=3", "evaluate.attempts=2",
    "evaluate.first=false", "test=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of a run that one process played."""
    runs = tmp_path_factory.mktemp("runs")
    finish(start_run(runs, "--name", "alone", settings=SETTINGS))
    return runs / "alone"


def test_the_weights_are_those_of_one_player_whatever_happens_to_the_players(alone):
    runs = alone.parent
    folder = runs / "many"
    coordinator = start_run(runs, "--name", "many", settings=SETTINGS)
    # It waits until the others are there, lest it play everything alone.
    stop_outside_a_transaction(coordinator, folder / "log.sqlite")
    killed, stopped, patient = (start_run(runs, "--join", "many") for _ in range(3))
    wait_until(lambda: sum("player_ready" in path.read_text() for path in folder.glob("players/*.log")) == 3, patient)
    os.kill(coordinator.pid, signal.SIGCONT)
    wait_until(lambda: count(folder, "iteration_started"), coordinator, pause_s=0.01)
    # So that the coordinator surely dies between the barrier and the update.
    os.kill(running(coordinator.pid, "trainer.run")[0], signal.SIGSTOP)
    wait_until(lambda: appended(folder, killed.pid) and appended(folder, stopped.pid), coordinator, pause_s=0.02)
    killed.kill()
    os.kill(stopped.pid, signal.SIGSTOP)
    wait_until(lambda: count(folder, "iteration_finished"), coordinator, pause_s=0.02)
    coordinator.kill()
    os.kill(stopped.pid, signal.SIGCONT)
    coordinator.communicate()
    killed.communicate()
    assert count(folder, "policy_updated") == 0
    finish(start_run(runs, "--resume", "many"))
    for player in (stopped, patient):
        assert "The run is finished" in finish(player)
    assert record(folder) == record(alone)
    assert count(folder, "run_resumed") == 1
    is_shown(folder)


def test_a_run_replaces_a_player_that_dies_and_ends_its_players_with_itself(alone):
    runs, folder = alone.parent, alone.parent / "launched"
    coordinator = start_run(runs, "--name", "launched", "--players", "2", settings=SETTINGS)
    wait_until(lambda: running(coordinator.pid, "trainer.run"), coordinator)
    (trainer,) = running(coordinator.pid, "trainer.run")
    # It cannot learn meanwhile, so that the run goes on until it is stopped.
    os.kill(trainer, signal.SIGSTOP)
    wait_until(lambda: len(running(coordinator.pid, "graph.run")) == 2, coordinator)
    first, second = running(coordinator.pid, "graph.run")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len({second, *running(coordinator.pid, "graph.run")} - {first}) == 2, coordinator)
    wait_until(lambda: sum("player_ready" in path.read_text() for path in folder.glob("players/*.log")) == 2, coordinator)
    started = running(coordinator.pid, "graph.run")
    assert len(started) == 2
    os.kill(trainer, signal.SIGCONT)
    coordinator.send_signal(signal.SIGINT)
    out, err = coordinator.communicate()
    assert (coordinator.returncode, err) == (130, "")
    assert re.search(r"warning: Player \d on this machine ended and is replaced in 1 s: it was killed by signal 9", out)
    assert all_end(started)
    finish(start_run(runs, "--resume", "launched", "--players", "2"))
    assert record(folder) == record(alone)


def test_a_player_without_the_folder_fetches_weights_and_records_the_same(alone, postgres, monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame-sesame-sesame")
    runs, url, address = alone.parent, f"{postgres}?run=fetched", f"127.0.0.1:{free_port()}"
    with closing(hold_first_iteration(url)):
        options = ("--name", "fetched", "--log", postgres, "--serve-weights", address)
        coordinator = start_run(runs, *options, settings=(*SETTINGS, "play.patience_s=600"))
        wait_until(lambda: running(coordinator.pid, "trainer.run"), coordinator)
        player = start_run(runs, "--join", url, "--weights", f"http://{address}")
        wait_until(lambda: is_ready(runs / "fetched.player"), player)
    assert "The run is finished" in finish(player)
    finish(coordinator)
    assert appended(runs / "fetched", player.pid)
    assert record(runs / "fetched") == record(alone)


def test_a_ray_cluster_places_players_and_replaces_one_that_is_killed(alone, temporary, postgres):
    runs, folder = alone.parent, alone.parent / "ray"
    with ExitStack() as stack:
        address, cluster = stack.enter_context(ray_cluster(temporary, cpus=2))
        claims = stack.enter_context(closing(hold_first_iteration(f"{postgres}?run=ray")))
        options = ("--name", "ray", "--log", postgres, "--players", f"{address}/2")
        coordinator = start_run(runs, *options, settings=(*SETTINGS, "play.patience_s=600"))
        stack.callback(coordinator.kill)
        wait_until(lambda: len(running(cluster, "graph.run")) == 2, coordinator, pause_s=0.2)
        first, second = running(cluster, "graph.run")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len({second, *running(cluster, "graph.run")} - {first}) == 2, coordinator, pause_s=0.2)
        wait_until(lambda: is_ready(folder), coordinator, pause_s=0.2)
        # The coordinator lets the others begin.
        os.kill(coordinator.pid, signal.SIGSTOP)
        claims.close()
        wait_until(lambda: any(appended(folder, player) for player in running(cluster, "graph.run")), coordinator, pause_s=0.2)
        os.kill(coordinator.pid, signal.SIGCONT)
        assert re.search(rf"warning: Player \d on {address} ended and is replaced", finish(coordinator))
        assert all_end(running(cluster, "graph.run"))
    assert {path.name for path in folder.glob("players/*.out")} == {"ray-0.out", "ray-1.out"}
    assert record(folder) == record(alone)


def is_shown(folder: Path) -> None:
    """Assert that the terminal and the viewer say who played what."""
    with closing(open_log(folder / "log.sqlite")) as log:
        summary = fold(RunSummary(), log.read())
    players = summary.players.figures
    assert len(players) == 5
    assert sum(player.episodes for player in players.values()) == 12
    assert sum(player.tokens for player in players.values()) == summary.tokens
    with closing(Viewer([str(folder)])) as viewer:
        wait_until_indexed(viewer, folder.name)
        page = TestClient(make_app(viewer)).get(f"/runs/{folder.name}").text
    console = Console(file=io.StringIO(), width=300)
    console.print(overview(summary), *_players(summary, datetime.now(UTC)))
    for player in players.values():
        for text in (page, console.file.getvalue()):
            assert player.name in text
            assert player.share in text


def events(folder: Path) -> list:
    with closing(open_run(str(folder))) as log:
        assert log.verify() is None
        return list(log.read())


def count(folder: Path, kind: str) -> int:
    return sum(event.fact.kind == kind for event in events(folder))


def stop_outside_a_transaction(process: subprocess.Popen[str], log: Path) -> None:
    """Stop a process that has begun this log, while it does not hold the file's lock, for which others would wait."""
    wait_until(log.exists, process, pause_s=0.01)
    with closing(sqlite3.connect(log, timeout=0, isolation_level=None)) as db:

        def stop() -> bool:
            os.kill(process.pid, signal.SIGSTOP)
            try:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("SELECT 1 FROM events").fetchone():
                    return True
            except sqlite3.OperationalError:
                # Another writes, or has not made the table yet.
                pass
            if db.in_transaction:
                db.execute("ROLLBACK")
            os.kill(process.pid, signal.SIGCONT)
            return False

        wait_until(stop, process, pause_s=0.02)


def hold_first_iteration(url: str) -> PostgresClaims:
    """Claim its shares, so that nobody plays before the claims are closed; then the coordinator leaves them to others first."""
    claims = PostgresClaims(PostgresLocation.parse(url))
    assert all(claims.take(f"share {share} of iteration 1") for share in range(4))
    return claims


def is_ready(folder: Path) -> bool:
    """Whether a player of this folder waits for a share."""
    return any("player_ready" in log.read_text() for log in folder.glob("players/*.log"))


def appended(folder: Path, pid: int) -> bool:
    """Whether a player has appended something."""
    return any(f"-{pid}-" in event.observed.get("player", "") for event in events(folder))


def record(folder: Path) -> tuple[dict, list]:
    """The last hash of every episode's and evaluation's stream, and of every update its weights and what it learned from."""
    hashes = {event.stream: (event.version, event.hash) for event in events(folder) if event.stream.startswith("e")}
    updates = [event.fact for event in events(folder) if isinstance(event.fact, PolicyUpdated)]
    ends = [event.stream for event in events(folder) if isinstance(event.fact, EpisodeFinished)]
    assert len(ends) == len(set(ends)) == 12
    return hashes, [(fact.iteration, fact.digest, fact.samples) for fact in updates]


def test_who_cannot_join_gets_a_sentence_and_appends_nothing(alone, monkeypatch):
    runs, before = alone.parent, len(events(alone))
    for where, folder, sentence in (
        ("nowhere", None, "There is no run 'nowhere' to join"),
        ("postgresql://127.0.0.1/db", None, "holds no weights of the run; name its folder"),
        ("postgresql://127.0.0.1/db", "nowhere", "nowhere holds no weights of the run; name its folder"),
    ):
        with pytest.raises(BadInput, match=sentence):
            join.join_run(where, runs, folder)
    monkeypatch.setattr(join, "versions", lambda *_: {"torch": "1.0"})
    with pytest.raises(BadInput, match=r"was started with .*, and this player has .*; install what the run has"):
        join.join_run("alone", runs, None)
    monkeypatch.undo()
    other = join.recorded_run
    with monkeypatch.context() as patch:
        patch.setattr("graph.setup.run_inputs.Prompts.digest", "another", raising=True)
        with pytest.raises(BadInput, match=r"The prompts of .* changed since the run started"):
            join.join_run("alone", runs, None)
    assert join.recorded_run is other
    command = start_command("graph.run", "--join", "alone", "--name", "x", fresh=False)
    assert "--join plays with the settings and the log" in command.communicate()[1]
    assert len(events(alone)) == before


def test_a_player_with_a_flipped_bit_in_its_weights_is_refused(alone, tmp_path):
    run = shutil.copytree(alone, tmp_path / "flipped")
    last = next(event.fact.policy for event in reversed(events(run)) if isinstance(event.fact, PolicyServed))
    with (run / "weights" / last / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    before = len(events(run))
    player = start_run(tmp_path, "--join", "flipped")
    assert re.search(r"error: Weights in .* are \w+, not \w+; give the right folder", player.communicate()[1])
    assert player.returncode == 1
    assert len(events(run)) == before
