"""Outcomes of finished runs as files, so that an experiment can be played on several machines and reported together.

A folder has a file `RECIPE-SEED.json` for each run, a small part of its log: no question, program or completion is in it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from events.cli.app import open_run
from events.facts.errors import BadInput
from events.maintenance.atomic_file import write_atomically
from events.text.validation import first_problem
from graph.setup.folder import recorded_settings
from trainer.experiments.experiment_plan import Cell, ExperimentPlan
from trainer.experiments.outcome import RunOutcome, run_outcome
from trainer.experiments.runs import MACHINE_SETTINGS, RunProcess, differing_setting

LOCATION_SETTINGS: Final = frozenset(
    {"model", "goalposts", "practice", "test", "validation", "documents.source", "verify.embedding", "serve.urls"}
)
"""Settings that may name files or machines, which are left out; weights and question sets have digests."""
_OUTCOME: Final = TypeAdapter(RunOutcome)


class OutcomeFiles:
    """The outcomes of a plan's runs in a folder, which need not exist yet."""

    def __init__(self, plan: ExperimentPlan, folder: Path) -> None:
        self._plan, self._folder = plan, folder

    def _file(self, cell: Cell) -> Path:
        return self._folder / f"{cell.run}.json"

    def read(self, cell: Cell) -> RunOutcome | None:
        """The outcome of a run; None if it is not there.

        Raises:
            BadInput: the file cannot be read, or is of a run with other settings.
        """
        file = self._file(cell)
        try:
            outcome = _OUTCOME.validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"Outcome {file} cannot be read ({error.strerror}); mend that, or remove it.") from error
        except ValidationError as error:
            key, message = first_problem(error)
            raise BadInput(
                f"{file} is not an outcome of this version ({key}: {message}); remove it, and make it again from the run's log."
            ) from error
        begun, planned = recorded_settings(file, outcome.started), self._plan.config(cell.recipe, cell.seed)
        if differing := differing_setting(begun, planned, MACHINE_SETTINGS | LOCATION_SETTINGS):
            raise BadInput(f"Outcome {file} is of a run with {differing}; put that back, or remove the file.")
        return outcome

    def save(self, run: RunProcess) -> None:
        """Write the outcome of a finished run, unless it is there.

        Raises:
            LogError: the log cannot be read, or the file not be written.
        """
        file = self._file(run.cell)
        if file.exists():
            return
        with closing(open_run(str(run.folder))) as log:
            outcome = run_outcome(log)
        started = outcome.started.model_copy(update={"config": _without(outcome.started.config, LOCATION_SETTINGS)})
        with write_atomically(file, "outcome") as draft:
            draft.write_bytes(_OUTCOME.dump_json(replace(outcome, started=started)) + b"\n")


def _without(tree: dict[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """A nested dict without the values of dotted keys."""
    return {
        name: _without(value, keys, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in tree.items()
        if f"{prefix}{name}" not in keys
    }
