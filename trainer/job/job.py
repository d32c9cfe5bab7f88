"""Training jobs: what a command line asks of the trainer, with every log of it opened once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.facts.log import Log, find_run_started
from events.facts.streams import RUN
from events.facts.types import RunStarted
from events.stores.memory import MemoryLog
from events.stores.patient import PatientLog
from trainer.data import replay
from trainer.job import offline
from trainer.job.update_schedule import TrainingSource, UpdateSchedule


@dataclass(frozen=True)
class TrainingJob:
    """A run to train, opened."""

    folder: Path
    log: Log
    until: int | None = None
    """Last position that counts; None: all."""
    sources: Sequence[TrainingSource] = ()
    """What it learns from instead of its own log."""
    verify: bool = False
    """Whether rollouts and weights have to be those that the sources recorded."""

    def schedule(self, start: RunStarted) -> UpdateSchedule:
        """The updates to make, once the run has started."""
        return UpdateSchedule(self.log, start, until=self.until, sources=self.sources, verify=self.verify)


@contextmanager
def open_job(
    run: Path | None,
    offline_paths: Sequence[Path],
    changes: Sequence[str],
    *,
    recredit: str | None,
    until: int | None,
    verify: bool | None,
    dry: bool,
) -> Iterator[TrainingJob]:
    """Open a run, or create one that learns from recorded runs; for a dry job the new run stays in memory.

    Raises:
        BadInput: the arguments do not fit together, or a run is missing.
    """
    with ExitStack() as stack:
        if offline_paths:
            folder = run or offline_paths[0].with_name(f"{offline_paths[0].absolute().name}-offline")
            sources = stack.enter_context(offline.open_sources(offline_paths))
            plan = offline.plan_offline(sources, changes, recredit=recredit, until=until)
            log = stack.enter_context(closing(_in_memory(plan) if dry else offline.open_or_create(folder, plan)))
        elif run is None:
            raise BadInput("There is nothing to train; name the directory of a run, or one to learn from with --offline.")
        elif changes or recredit:
            raise BadInput("The settings of a run are in its log; --set, --recredit and --epochs need --offline.")
        else:
            folder, log = run if run.is_dir() else run.parent, stack.enter_context(closing(open_run(str(run))))
            start = find_run_started(log)
            if start is None or not start.sources:
                if verify is not None:
                    raise BadInput("--verify compares with a recorded run; name one by --offline.")
                # Where several players play, a database that restarts ends none of them, and not the trainer either.
                yield TrainingJob(folder, PatientLog(log) if replay.shares(start) > 1 else log, until)
                return
            if until is not None:
                raise BadInput(f"How far {run} learns from its sources is in its log; leave out --until.")
            sources = stack.enter_context(offline.open_sources(offline.source_paths(log)))
            plan = offline.resume_plan(start, sources)
        verify = plan.expects_recorded_weights() if verify is None else verify
        yield TrainingJob(folder, log, None, plan.training_sources(), verify)


def _in_memory(plan: offline.OfflinePlan) -> Log:
    log = MemoryLog()
    log.append(RUN, [plan.start])
    return log
