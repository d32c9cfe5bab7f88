"""What a process is doing is told in lines with what is done, of how much, and for how long it still takes."""

from __future__ import annotations

import threading
import time

import pytest

from events.process.activity import Activity, ActivityTask, format_duration, report_activity


def test_a_task_tells_how_far_it_is_and_what_is_left_at_the_pace_so_far() -> None:
    task = ActivityTask("sampling answers", total=8, note=lambda: "12 tokens")
    task.began -= 30
    assert str(task) == "sampling answers: 0 of 8, for 0:30 (12 tokens)"
    task.add(6)
    assert str(task) == "sampling answers: 6 of 8, 0:10 left (12 tokens)"
    assert format_duration(3725) == "1:02:05"


def test_a_finer_share_tells_what_is_left_before_anything_is_done() -> None:
    task = ActivityTask("sampling answers", total=8, share=lambda: 0.25)
    task.began -= 30
    assert str(task) == "sampling answers: 0 of 8, 1:30 left"


def test_what_was_done_before_is_no_pace() -> None:
    task = ActivityTask("examining")
    task(90, 100)
    assert task.left is None
    task.began -= 30
    task(93, 100)
    assert round(task.left) == 70


def test_those_who_do_the_same_at_once_are_counted_together_and_what_is_over_is_not_told() -> None:
    activity = Activity()
    assert str(activity) == ""
    with activity.task("episodes", 2), activity.task("sampling", 10) as task:
        with activity.task("sampling", 30) as other:
            task.add(10)
            other.add(10)
            assert "episodes: 0 of 2" in str(activity)
            assert "; sampling: 20 of 40" in str(activity)
        assert "sampling: 20 of 40" in str(activity)
        assert activity.first.what == "episodes"
    assert str(activity) == ""


def test_a_lap_divides_all_time_among_phases_and_what_goes_on_beside_sampling_costs_nothing() -> None:
    activity, began = Activity(), time.monotonic()
    with activity.task("sampling answers", phase="sampling"), activity.task("running programs", phase="programs"):
        time.sleep(0.02)
    with activity.task("running programs", phase="programs"), activity.task("syncing"):
        time.sleep(0.01)
    lap = activity.lap()
    elapsed = time.monotonic() - began
    assert lap["sampling"] >= 0.02
    assert 0.01 <= lap["programs"] < elapsed - 0.019
    assert (lap["learning"], lap["evaluation"]) == (0, 0)
    assert sum(lap.values()) == pytest.approx(elapsed, abs=0.005)
    assert activity.lap()["sampling"] == 0


def test_it_is_told_now_and_then_and_of_warnings_at_once_while_the_process_works() -> None:
    activity, lines, warned = Activity(), [], threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        if line == "warning: a server is slow":
            warned.set()

    with report_activity(activity, tell, every_s=0.02), activity.task("learning", 4):
        activity.warn("a server is slow")
        assert warned.wait(30)
        deadline = time.monotonic() + 30
        while not any(line.startswith("learning: 0 of 4") for line in lines) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert lines.count("warning: a server is slow") == 1
    assert any(line.startswith("learning: 0 of 4") for line in lines)
