"""A folder with a recorded run, in which the examples of the documents run."""

from __future__ import annotations

from contextlib import closing

import pytest

from events.facts.types import AttemptsMade, GoalpostAdded, PolicyUpdated, QuestionAccepted
from events.stores import open_log
from tests.support.example_runs import example_run


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Begin in a folder that holds runs/run-001; the events of the run."""
    (tmp_path / "runs" / "run-001").mkdir(parents=True)
    with closing(open_log(tmp_path / "runs" / "run-001" / "log.sqlite", create=True)) as log:
        example_run(log).run(recipe="gasp").goalpost(2).play().update().end()
        events = list(log.read())
    monkeypatch.chdir(tmp_path)
    return events


@pytest.fixture
def placeholders(recorded, postgres):
    """What stands in the examples for what a reader has, and what the recorded run has in its place."""

    def first(kind):
        return next(event for event in recorded if isinstance(event.fact, kind))

    attempts = first(AttemptsMade)
    return {
        "GOALPOST": first(GoalpostAdded).fact.question,
        "QUESTION": first(QuestionAccepted).fact.question,
        "STREAM:VERSION": f"{attempts.stream}:{attempts.version}",
        "DIGEST": first(PolicyUpdated).fact.digest,
        "postgresql://gasp@host/gasp": postgres,
    }
