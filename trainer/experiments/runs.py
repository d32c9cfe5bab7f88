"""The runs of an experiment as processes.

Guarantees: what a run has done is read from its log alone, so that a repeated command continues where the last one stopped. No
process outlives this one.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

from events.cli.app import holds_log, open_run
from events.facts.errors import BadInput
from events.facts.log import first_event, run_started
from events.facts.streams import RUN
from events.process.child_processes import end_processes, start_process
from events.projections.run_summary import CompletionCount
from events.text.safe_text import one_line
from graph.settings.config import Config
from graph.settings.configure import all_settings, setting_value, to_toml
from graph.setup.folder import recorded_settings, run_lock
from trainer.experiments.experiment_plan import Cell, ExperimentPlan

RunState = Literal["playing", "failed", "waiting", "busy", "finished"]

POLL_S: Final = 0.5
"""Seconds between polls of processes and logs."""
GRACE_S: Final = 60.0
"""Seconds that runs have to stop before they are killed."""
MACHINE_SETTINGS: Final = frozenset(
    {
        "threads",
        "verify.workers",
        "learn.batch_tokens",
        "learn.gradient_checkpointing",
        "learn.processes",
        "learn.devices",
        "serve.devices",
    }
)
"""Settings that fit a run to a machine and change results by rounding only, so that a run may have others than its plan."""
_TAIL_BYTES: Final = 4096
"""Bytes at the end of a process's output in which its last line is searched."""


class RunProcess:
    """One cell of a plan: its log, and the process that plays it."""

    def __init__(self, cell: Cell, config: Config, folder: Path) -> None:
        self.cell, self.config = cell, config
        self.folder = folder / cell.run
        self.output = folder / f"{cell.run}.out"
        """The file with the output of its last process."""
        self.state: RunState = "waiting"
        """`busy`: another process plays it, such as that of a killed command, which ends soon."""
        self.samples = CompletionCount()
        self.process: subprocess.Popen[bytes] | None = None
        """Its last process; None where it was not started here."""

    @property
    def begun(self) -> bool:
        """Whether it has a log."""
        return holds_log(self.folder)

    @property
    def iteration(self) -> int:
        """Number of iterations played."""
        return max(self.samples.after)

    def check(self) -> None:
        """Check that it was begun with the settings of the plan, except those that fit it to a machine.

        Raises:
            BadInput: it was begun with others.
        """
        if not self.begun:
            return
        with closing(open_run(str(self.folder))) as log:
            begun = recorded_settings(self.folder, run_started(log))
        if differing := differing_setting(begun, self.config):
            raise BadInput(
                f"Run {self.folder} was begun with {differing}; put that back, give the plan another name, or remove the run's"
                " folder."
            )

    def look(self) -> None:
        """Update its state from its log and process."""
        if self.state in ("finished", "failed"):
            return
        code = None if self.process is None else self.process.poll()
        over = self._read()
        if self.process is not None and code is None:
            self.state = "playing"
        elif over:
            self.state = "finished"
        elif code is not None:
            self.state = "failed"
        else:
            self.state = "busy" if self.begun and _is_locked(self.folder) else "waiting"

    def _read(self) -> bool:
        """Read new events of its log; returns whether the run is over."""
        if not self.begun:
            return False
        with closing(open_run(str(self.folder))) as log:
            for event in log.read(after=self.samples.position, kinds=CompletionCount.KINDS):
                self.samples.apply(event)
            return first_event(log, RUN, "run_finished") is not None

    def start(self) -> None:
        """Start or resume it."""
        file = self.folder.with_suffix(".toml")
        file.write_text(to_toml(self.config), encoding="utf-8")
        new = (str(file), "--name", self.cell.run, "--runs", str(self.folder.parent))
        arguments = ("--resume", str(self.folder)) if self.begun else new
        command = [sys.executable, "-m", "graph.run", "--plain", *arguments]
        with self.output.open("wb") as output:
            self.process = start_process(command, output, {"OMP_NUM_THREADS": "1"}, on_parent_death=signal.SIGTERM)
        self.state = "playing"

    @property
    def last_line(self) -> str:
        """The last line of its process's output; empty unless it plays."""
        if self.state != "playing":
            return ""
        with self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - _TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return one_line(lines[-1], 120) if lines else ""

    @property
    def error_summary(self) -> str:
        """How its process failed, and its last error message."""
        assert self.process is not None
        lines = [line.strip() for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        last = (errors or lines or ["no output"])[-1].removeprefix("error: ")[:300]
        code = self.process.returncode
        reason = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        return f"{reason}: {last}"


def runs_of(plan: ExperimentPlan, folder: Path) -> list[RunProcess]:
    """The runs of a plan, in the order in which they start.

    Raises:
        BadInput: a run was begun with other settings.
    """
    runs = [RunProcess(cell, plan.config(cell.recipe, cell.seed), folder) for cell in plan.cells()]
    for run in runs:
        run.check()
        run.look()
    return runs


def differing_setting(begun: Config, planned: Config, ignored: Collection[str] = MACHINE_SETTINGS) -> str | None:
    """The first setting of a run that is not the plan's, and both values; None if there is none."""
    for key, _, _ in all_settings():
        old, new = setting_value(begun, key), setting_value(planned, key)
        if old != new and key not in ignored:
            return f"{key} = {old!r}, and the plan says {new!r}"
    return None


def play(
    runs: Sequence[RunProcess],
    parallel: int,
    show: Callable[[], None],
    finished: Callable[[RunProcess], None] | None = None,
) -> None:
    """Play the runs that are not over, `parallel` at once; a failed run stops no other.

    `show` is called at every poll, `finished` once for each run that is over, those that were over before among them.
    """
    over: set[Cell] = set()
    try:
        while True:
            for run in runs:
                run.look()
                if finished is not None and run.state == "finished" and run.cell not in over:
                    over.add(run.cell)
                    finished(run)
            playing = sum(run.state == "playing" for run in runs)
            for run in itertools.islice((run for run in runs if run.state == "waiting"), max(0, parallel - playing)):
                run.start()
            show()
            if all(run.state in ("finished", "failed") for run in runs):
                return
            time.sleep(POLL_S)
    finally:
        end_processes([run.process for run in runs if run.process is not None], GRACE_S)


def _is_locked(folder: Path) -> bool:
    try:
        with run_lock(folder):
            return False
    except BadInput:
        return True
