"""Reports of updates: a line for each step and a warning for each new symptom on the screen, metrics in the operational log.

Everything is read from the log's events, measured times included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOBase
from pathlib import Path
from typing import TextIO

from rich.console import Console

from events.cli.output import show_activity
from events.facts.digests import SHORT
from events.facts.log import Event, Log
from events.facts.trial_facts import TrialLearned
from events.facts.types import PolicyUpdated
from events.process.activity import LOG_INTERVAL_S, Activity, report_activity
from events.projections.run_summary import RunSummary
from events.reports.learning import step_header, step_lines
from events.reports.training_warnings import Key, TrainingWarning, diagnose
from events.text.logging import logger
from graph.play.trainer_process import PROGRESS_FILE


@contextmanager
def report_training(folder: Path, screen: Console | None) -> Iterator[Activity]:
    """Report what the trainer does: in a file of the run's folder, in the operational log, and on a screen if there is one."""
    file, fresh = folder / PROGRESS_FILE, folder / f"{PROGRESS_FILE}.new"
    activity = Activity()

    def write(line: str) -> None:
        # A full disk is no reason to stop the update.
        with suppress(OSError):
            fresh.write_text(line)
            fresh.replace(file)

    with ExitStack() as stack:
        stack.callback(lambda: file.unlink(missing_ok=True))
        stack.enter_context(report_activity(activity, write, 1.0, idle=True))
        stack.enter_context(report_activity(activity, lambda line: logger().info("progress", doing=line), LOG_INTERVAL_S))
        if screen is not None:
            stack.enter_context(show_activity(activity, screen))
        yield activity


class UpdateReporter:
    """Reports the updates of a run on a screen and in the operational log."""

    def __init__(self, log: Log, screen: TextIO | TextIOBase) -> None:
        self._log = log
        self._screen = screen
        self._summary = RunSummary()
        self._has_header = False
        self._warned: set[Key] = set()

    def __call__(self, event: Event) -> None:
        """Report an update, or a trial."""
        for earlier in self._log.read(after=self._summary.position):
            self._summary.apply(earlier)
            if earlier.position == event.position:
                break
        if isinstance(event.fact, TrialLearned):
            logger().info("trial_learned", digest=event.fact.digest[:SHORT], seconds=event.observed.get("seconds"))
            return
        if not self._has_header:
            self._print(step_header())
            self._has_header = True
        for line in step_lines(self._summary, self._summary.updates[-1]):
            self._print(line)
        logger().info("policy_updated", **update_fields(event))
        self._warn(diagnose(self._summary))

    def _warn(self, symptoms: list[TrainingWarning]) -> None:
        """Warn of each symptom when it begins, not for as long as it lasts."""
        for symptom in symptoms:
            if symptom.key not in self._warned:
                self._print(f"warning: {symptom}")
                logger().warning("symptom_found", **symptom._asdict())
        self._warned = {symptom.key for symptom in symptoms}

    def _print(self, line: str) -> None:
        print(line, file=self._screen)


def update_fields(event: Event) -> dict[str, str | int | float]:
    """The fields of an update in the operational log."""
    fact = event.fact
    assert isinstance(fact, PolicyUpdated)
    steps = [step for step in fact.steps if step.samples]
    fields: dict[str, str | int | float] = {
        "policy": fact.policy,
        "iteration": fact.iteration,
        "digest": fact.digest[:SHORT],
        "steps": len(steps),
        "samples": sum(step.samples for step in steps),
        "tokens": sum(step.tokens for step in steps),
        "silent_groups": sum(step.silent_groups for step in fact.steps),
        "groups": sum(step.groups for step in fact.steps),
    }
    for name in ("loss", "grad_norm", "entropy", "clip_ratio/region_mean"):
        if having := [step for step in steps if name in step.metrics]:
            mean = sum(step.metrics[name] * step.tokens for step in having) / sum(step.tokens for step in having)
            fields[name] = round(mean, 4)
    fields["seconds"] = round(float(event.observed.get("seconds", 0.0)), 2)
    fields["tokens_per_second"] = round(float(event.observed.get("tokens_per_second", 0.0)))
    return fields
