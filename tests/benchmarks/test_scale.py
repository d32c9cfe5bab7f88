"""The simulation of many players: its log holds every append once, and a log that takes no time slows nobody down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale import Costs, paper, queued_s
from benchmarks.simulated_players import APPENDS, World, simulate

WORLD = World(speedup=2000, attempts=2, tokens=10, death=0.2)


def test_simulated_players_record_everything_once_over_few_connections(postgres):
    run = simulate(f"{postgres}?run=simulated", 6, 2, WORLD)
    assert run.appends == 6 * APPENDS * WORLD.iterations
    assert run.seconds > run.ideal_s == pytest.approx(WORLD.ideal_s(6) / 2000)
    assert run.client_ms > 0


def test_a_log_slows_players_down_by_what_an_append_takes():
    assert queued_s(8, WORLD, 0) == pytest.approx(WORLD.ideal_s(8))
    # Appends of all take turns, so that a run cannot be quicker than all of them.
    assert queued_s(512, WORLD, 10) > 512 * APPENDS * WORLD.iterations * 0.010 * WORLD.speedup
    assert queued_s(1, WORLD, 10) == pytest.approx(WORLD.ideal_s(1) + APPENDS * WORLD.iterations * 0.010 * WORLD.speedup)


def test_players_that_die_take_longer():
    assert replace(WORLD, death=0).ideal_s(16) < WORLD.ideal_s(16)


def test_the_papers_run_has_a_column_for_each_number_of_gpus():
    lines = paper(Costs(2.0, 1.0, 0.5, 0.2, 0.1, 0.05, {1000: 1.0, 4000: 4.0}, 0.2))
    assert lines[0] == "|  | 8 GPUs | 64 GPUs | 512 GPUs |"
    rows = {line.split(" | ")[0].strip("| "): line for line in lines}
    # The paper's own iteration ends at its batches one after the other; one that grows keeps the GPUs busy.
    assert "100 s | 100 s | 100 s" in rows["its batches one after the other"]
    assert "70% | 70% | 70%" in rows["of which GPUs are busy"]
