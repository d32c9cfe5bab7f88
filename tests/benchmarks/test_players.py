"""The benchmark of players: its own assertions are that kills and numbers of players change no fact."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def test_players_that_are_killed_record_what_one_records(postgres):
    command = [sys.executable, "-m", "benchmarks.players", postgres, "--counts", "1,2", "--episodes", "12", "--iterations", "2"]
    done = subprocess.run(
        [*command, "--latency", "0.02", "--kills", "20"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["players"] for row in rows[:2]] == [1, 2]
    assert rows[-1]["in all"] >= 20
