"""What the trainer tells of its updates."""

from __future__ import annotations

import io

from events.reports.learning import step_header
from events.reports.training_warnings import WINDOW
from tests.events.test_training_warnings import COLLAPSED, learned, step
from trainer.learn.update_report import UpdateReporter, update_fields


def record_update(log) -> list[str]:
    screen = io.StringIO()
    say = UpdateReporter(log, screen)
    for event in list(log.read(kinds={"policy_updated"})):
        say(event)
    return screen.getvalue().splitlines()


def test_each_step_is_a_line_below_one_heading():
    lines = record_update(learned(*[step()] * 3))
    assert lines[0] == step_header()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]


def test_a_symptom_is_told_when_it_begins_and_again_when_it_returns():
    collapse = [
        COLLAPSED["entropy_collapse"].model_copy(update={"metrics": {**COLLAPSED["entropy_collapse"].metrics, "loss": 0}})
    ]
    well = [step(loss=0.1)]
    lines = record_update(learned(*well * 4, *collapse * (WINDOW + 3), *well * WINDOW, *collapse * WINDOW))
    warnings = [line for line in lines if line.startswith("warning: entropy collapse")]
    assert len(warnings) == 2
    assert "iteration 7" in warnings[0]


def test_machines_get_every_figure():
    (event,) = learned(step()).read(kinds={"policy_updated"})
    fields = update_fields(event)
    assert (fields["iteration"], fields["samples"], fields["loss"], fields["tokens_per_second"]) == (1, 40, 0.1, 1234)
