from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from events.facts.types import IterationFinished
from events.process.activity import Activity
from events.process.console import RaisingConsole
from events.projections.figures import SeatFigures
from events.stores.memory import MemoryLog
from graph.display.final_report import final_report
from graph.display.iteration_row import COLUMNS, accepted_text
from graph.display.live import live_view, progress_lines, show
from graph.display.run_monitor import RunMonitor, expected_iterations
from graph.play_run import _display
from graph.settings.config import Config, PlaySettings
from tests.events.test_training_warnings import COLLAPSED, learned, step
from tests.support.example_runs import example_run, question


def text(renderable, width: int = 240) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


@pytest.fixture
def played():
    """A run with one learned iteration and one under way."""
    log = MemoryLog()
    example = (
        example_run(log)
        .run()
        .goalpost()
        .evaluate()
        .start()
        .episode(lemma=5, lift=2)
        .practice(passing=3)
        .fail()
        .finish()
        .update()
    )
    example.start().open(question(), "guided")
    return log


def display_of(log):
    monitor = RunMonitor(log, Config())
    monitor.update()
    return monitor


def test_a_learned_iteration_is_one_line(played):
    lines = [line for _, line in progress_lines(display_of(played).summary)]
    (iteration,) = [line for line in lines if line.startswith("iteration")]
    for words in ("iteration 1", "failed 1", "gap 1.00", "lemmas 1/1", "lifts 1/1"):
        assert words in iteration


def test_the_screen_shows_where_the_run_is(played):
    shown = text(live_view(display_of(played), 40, "sampling 10 answers"))
    for words in ("iteration 2 of 40", "left", "tokens/s", "1 lemma, 1 lift", "sampling 10 answers", "solver 1"):
        assert words in shown
    assert "behind" not in shown
    played.append("run", [IterationFinished(iteration=2, finished=1, failed=0)])
    assert "learning is 1 iteration behind" in text(live_view(display_of(played), 40, ""))


def test_a_budget_of_samples_says_how_many_iterations_are_expected(played):
    spent = display_of(played).summary.samples.after[1]
    assert expected_iterations(display_of(played).summary, PlaySettings(samples=3 * spent)) == 3
    assert expected_iterations(display_of(played).summary, PlaySettings(iterations=2, samples=3 * spent)) == 2
    assert expected_iterations(display_of(MemoryLog()).summary, PlaySettings(iterations=5, samples=100)) == 5


def test_the_end_compares_before_and_after(played, tmp_path):
    shown = text(final_report(played, tmp_path / "[bold]run"))
    for words in ("before", "after", "pass@1", "1 episode failed", "[bold]run", "head"):
        assert words in shown
    copied = next(line for line in shown.splitlines() if line.startswith("why a goalpost"))
    assert " -m events.trace " in copied
    assert copied.rstrip().endswith(next(iter(display_of(played).summary.goalposts))[:8])


def test_figures_before_are_those_of_the_first_weights_alone(tmp_path):
    def ends(first: bool) -> list[list[str]]:
        log = MemoryLog()
        run = example_run(log).run().goalpost()
        (run.evaluate("goalposts", successes=0) if first else run).start().practice(passing=3).finish().update()
        run.evaluate("goalposts", successes=5)
        return [line.split("  ") for line in text(final_report(log, tmp_path)).splitlines() if "pass@20" in line]

    assert [[cell.strip() for cell in row if cell] for row in ends(first=True)] == [
        ["pass@20 on 1 goalposts", "0.000", "1.000"]
    ]
    assert [[cell.strip() for cell in row if cell] for row in ends(first=False)] == [["pass@20 on 1 goalposts", "1.000"]]


def test_only_kinds_of_questions_that_were_proposed_are_counted(played):
    summary = display_of(played).summary
    assert accepted_text(summary, " and ") == "1 lemma and 1 lift"
    for seats, expected in (({"open": SeatFigures(proposed=3)}, "0 open questions"), ({}, "no questions")):
        for figures in summary.iterations.values():
            figures.seats = dict(seats)
        assert accepted_text(summary, " and ") == expected


def test_the_screen_shows_the_latest_steps_and_every_symptom(played, tmp_path):
    assert "KL old" in text(live_view(display_of(played), 40, ""))
    assert "warning: a server is slow" in text(live_view(display_of(played), 40, "", ["a server is slow"]))
    ill = learned(*[step()] * 4, *[COLLAPSED["all_wrong"]] * 3)
    for shown in (text(live_view(display_of(ill), 40, "")), text(final_report(ill, tmp_path))):
        assert "warning: all wrong (shared, practice of iteration 7): 100% of 30 groups" in " ".join(shown.split())
    assert sum("warning: all wrong" in line for _, line in progress_lines(display_of(ill).summary)) == 1


def test_no_header_is_cut_on_a_terminal_of_80_columns(played):
    shown = text(live_view(display_of(played), 40, ""), width=80)
    assert set(" ".join(COLUMNS).replace("-", " ").split()) - set(shown.split()) == {"open", "rejected"}, (
        "only columns without figures are left out"
    )


async def test_the_plain_display_tells_everything_once(played):
    console = Console(file=io.StringIO(), width=200)
    task = asyncio.create_task(show(played, console, Config(), Activity(), plain=True))
    await asyncio.sleep(1.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert console.file.getvalue().count("iteration 1:") == 1


async def test_a_display_that_fails_is_said_once_and_stops_nothing(played, monkeypatch, capsys):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("graph.display.live.live_view", broken)
    await _display(played, RaisingConsole(file=io.StringIO(), force_terminal=True), Config(), Activity(), plain=False)
    assert (
        capsys.readouterr().err
        == "warning: the display failed (ZeroDivisionError) and shows nothing more; the run goes on, see run.log\n"
    )


async def test_without_a_terminal_what_is_being_done_is_told_when_nothing_else_is(monkeypatch):
    monkeypatch.setattr("graph.display.live.REPORT_INTERVAL_S", 0.1)
    monkeypatch.setattr("graph.display.live.REFRESH_S", 0.05)
    console, activity = Console(file=io.StringIO(), width=200), Activity()
    showing = asyncio.create_task(show(MemoryLog(), console, Config(), activity, plain=True))
    with activity.task("waiting for the trainer", note=lambda: "tokens learned: 3 of 8"):
        activity.warn("a server is [slow]")
        while "tokens learned" not in console.file.getvalue() and not showing.done():
            await asyncio.sleep(0.05)
    showing.cancel()
    output = console.file.getvalue()
    assert output.count("warning: a server is [slow]\n") == 1
    assert "waiting for the trainer, for 0:00 (tokens learned: 3 of 8)\n" in output
