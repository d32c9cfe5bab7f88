"""What a command line asks of the trainer, opened: a folder, its log, and what is to be learned.

Law: a run is ordered by its folder alone, since its log says the rest; recordings make a new one. It trains nothing.
"""

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
from trainer.job import offline
from trainer.job.update_schedule import TrainingSource, UpdateSchedule


@dataclass(frozen=True)
class TrainingJob:
    """A run, opened."""

    folder: Path
    log: Log
    until: int | None = None
    """Last position that counts."""
    recordings: Sequence[TrainingSource] = ()
    """What it learns from instead of its own log."""
    verify: bool = False
    """Whether samples and weights have to be the recorded ones."""

    def syllabus(self, start: RunStarted) -> UpdateSchedule:
        """What is to be learned."""
        return UpdateSchedule(self.log, start, until=self.until, recordings=self.recordings, verify=self.verify)


@contextmanager
def open_job(
    run: Path | None,
    sources: Sequence[Path],
    changes: Sequence[str],
    *,
    recredit: str | None,
    until: int | None,
    verify: bool | None,
    dry: bool,
) -> Iterator[TrainingJob]:
    """Open a run, or make one that learns from recordings; a dry one stays in memory.

    Raises:
        BadInput: what is asked for does not fit together, or is not there.
    """
    with ExitStack() as stack:
        if sources:
            folder = run or sources[0].with_name(f"{sources[0].absolute().name}-offline")
            plan = offline.plan_offline(sources, changes, recredit=recredit, until=until)
            log = stack.enter_context(closing(_fresh(plan) if dry else offline.open_or_create(folder, plan)))
        elif run is None:
            raise BadInput("There is nothing to train; name the directory of a run, or one to learn from with --offline")
        elif changes or recredit:
            raise BadInput("The settings of a run are in its log; --set, --recredit and --epochs need --offline")
        else:
            folder, log = run if run.is_dir() else run.parent, stack.enter_context(closing(open_run(str(run))))
            first = find_run_started(log)
            if first is None or not first.sources:
                if verify is not None:
                    raise BadInput("--verify compares with a recording; name one by --offline")
                yield TrainingJob(folder, log, until)
                return
            if until is not None:
                raise BadInput(f"How far {run} learns from its sources is in its log; leave out --until")
            plan = offline.resume_plan(log, first)
        recordings = plan.recordings()
        for recording in recordings:
            stack.enter_context(closing(recording.log))
        yield TrainingJob(folder, log, None, recordings, plan.expects_recorded_weights() if verify is None else verify)


def _fresh(plan: offline.OfflinePlan) -> Log:
    log = MemoryLog()
    log.append(RUN, [plan.start])
    return log
