"""Training from recordings: a new run that plays nothing, and learns from the logs of others.

Law: the new run's first event names its settings and its sources by position and head digest; from there on it is learned,
resumed and verified like any other. Sources are only read. With the settings of its one source it makes the same weights.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from events.cli.app import LOG_NAME, holds_log, open_run, run_name
from events.facts.errors import BadInput
from events.facts.log import Log, first_event
from events.facts.streams import RUN
from events.facts.types import RunStarted
from events.facts.values import Digest, SourceLog
from events.facts.weights import weights_digest
from events.stores import open_log
from graph.recipes import RECIPES
from graph.settings.config import Config
from graph.settings.configure import with_overrides
from graph.settings.model_location import copy_weights, model_folder
from graph.settings.refusals import refuse_unworkable
from graph.setup.assemble import run_started
from graph.setup.provenance import commit, versions
from trainer.job.update_schedule import TrainingSource

CHANGEABLE: Final = {"seed", "recipe", "model", "policies", "rewards", "learn"}
"""Settings that may differ from those that the sources were played with."""
NUMERIC_VERSIONS: Final = ("torch", "transformers", "trl", "numpy", "threads")
"""What decides the last bits of weights, by its name in `RunStarted.versions`."""
SOURCE_PATHS: Final = "sources"
"""In what `RunStarted` observed: where the sources lay."""


@dataclass(frozen=True)
class OfflinePlan:
    """What is to be learned, from where, and how."""

    start: RunStarted
    model: Path
    """The folder of the weights to start with."""
    sources: tuple[Path, ...]

    def recordings(self) -> list[TrainingSource]:
        """The sources, opened; rewards count as recorded where recipe and reward settings are those of the source."""
        config = Config.recorded(self.start.config)
        found = []
        for path, source in zip(self.sources, self.start.sources, strict=True):
            log = open_run(str(path))
            played = Config.recorded(run_started(log).config)
            same = (config.recipe, config.rewards) == (played.recipe, played.rewards)
            found.append(TrainingSource(log, source.until, None if same else config.algorithm()))
        return found

    def expects_recorded_weights(self) -> bool:
        """Whether the one source was learned with the same settings and versions, so that its weights must come out again."""
        if len(self.sources) != 1:
            return False
        with closing(open_run(str(self.sources[0]))) as log:
            first = run_started(log)
        alike = all(first.versions.get(name) == self.start.versions.get(name) for name in NUMERIC_VERSIONS)
        config = Config.recorded(first.config)
        return alike and first.policies == self.start.policies and config == Config.recorded(self.start.config)


def plan_offline(sources: Sequence[Path], overrides: Sequence[str], *, recredit: str | None, until: int | None) -> OfflinePlan:
    """Plan a run that learns from these, with the settings of the first but for `overrides`.

    Raises:
        BadInput: a source cannot be learned from, or a setting is wrong.
    """
    if until is not None and len(sources) > 1:
        raise BadInput(f"--until {until} would be a position of {len(sources)} logs; give one --offline RUN with it")
    if recredit is not None and recredit not in RECIPES:
        raise BadInput(f"There is no recipe {recredit!r}; --recredit takes one of {', '.join(RECIPES)}")
    played = Config.recorded(_first(sources[0]).config)
    config = with_overrides(played, [*overrides, *([f'recipe="{recredit}"'] if recredit else [])])
    _check_changes(played, config)
    model = start_weights(sources, None if config.model == played.model else config.model)
    refuse_unworkable(config, model)
    start = RunStarted(
        config=json.loads(config.model_dump_json()),
        versions=versions(config, model),
        commit=commit(),
        policies=dict.fromkeys(config.policy_of, weights_digest(model)),
        sources=tuple(source_of(path, until) for path in sources),
    )
    return OfflinePlan(start, model, tuple(path.absolute() for path in sources))


def open_or_create(folder: Path, wanted: OfflinePlan) -> Log:
    """The log of the run that follows the plan: a new one, or the one that is there already.

    Raises:
        BadInput: the folder holds something else.
    """
    if not folder.exists():
        _create(folder, wanted)
    if not holds_log(folder):
        raise BadInput(f"{folder} is there and is no run; name another folder")
    log = open_run(str(folder))
    first = run_started(log)
    if (first.config, first.sources, first.policies) != (wanted.start.config, wanted.start.sources, wanted.start.policies):
        log.close()
        raise BadInput(f"{folder} was started from other sources or with other settings; name another folder")
    return log


def resume_plan(log: Log, first: RunStarted) -> OfflinePlan:
    """The plan of a run that was begun before.

    Raises:
        BadInput: a source is not where it was, or not what it was.
    """
    start = first_event(log, RUN)
    assert start is not None
    observed = start.observed
    paths = tuple(Path(path) for path in observed.get(SOURCE_PATHS, ()))
    if len(paths) != len(first.sources):
        raise BadInput("The log does not say where its sources are; give them again, with the same --offline and settings")
    for path, source in zip(paths, first.sources, strict=True):
        if source_of(path, source.until).head != source.head:
            raise BadInput(f"{path} is not the log that {source.name} was; restore it, or start anew")
    return OfflinePlan(first, Path(), paths)


def _create(folder: Path, wanted: OfflinePlan) -> None:
    unfinished = folder.parent / f".new-{os.getpid()}"
    digest = wanted.start.policies["student"]
    try:
        unfinished.mkdir(parents=True)
        copy_weights(wanted.model, unfinished / "weights" / digest)
        with closing(open_log(unfinished / LOG_NAME, create=True)) as log:
            log.append(RUN, [wanted.start], expected=0, observed={SOURCE_PATHS: [str(path) for path in wanted.sources]})
        os.sync()
        unfinished.rename(folder)
    except OSError as error:
        raise BadInput(f"Run folder {folder} cannot be made: {error}; choose another, or make room") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _first(path: Path) -> RunStarted:
    if not path.is_dir():
        raise BadInput(f"There is no run in {path}; --offline takes the folder of a run, with weights/ in it")
    with closing(open_run(str(path))) as log:
        first = run_started(log)
    if first.sources:
        raise BadInput(f"{path} was itself trained offline and holds nothing that was played; give its sources instead")
    return first


def source_of(path: Path, until: int | None = None) -> SourceLog:
    """What names a log, as it is now or was at a position."""
    with closing(open_run(str(path))) as log:
        end = log.head()
        position, head = end.position, end.digest
        if until is not None and until < position:
            position, head = until, next((event.head for event in log.read(after=until - 1, limit=1)), "")
    return SourceLog(name=run_name(str(path)), until=position, head=head)


def start_weights(sources: Sequence[Path], model: str | None = None) -> Path:
    """The weights to start with: those of the first source, or a model with the same token ids as all sources.

    Raises:
        BadInput: there are none.
    """
    firsts = [_weights(path) for path in sources]
    found = firsts[0] if model is None else model_folder(model)
    _check_tokenizers(found, set(firsts))
    return found


def _weights(path: Path) -> Path:
    digest: Digest = _first(path).policies["student"]
    folder = path / "weights" / digest
    if not folder.is_dir():
        raise BadInput(f"{path} has lost the weights that it started with ({digest}); restore weights/, or --set model=FOLDER")
    return folder


def _check_changes(played: Config, config: Config) -> None:
    before, now = played.model_dump(), config.model_dump()
    fixed = [name for name in before if name not in CHANGEABLE and before[name] != now[name]]
    if fixed:
        raise BadInput(
            f"The setting {fixed[0]!r} was played already; offline, only {', '.join(sorted(CHANGEABLE))} can be changed"
        )


def _check_tokenizers(model: Path, others: set[Path]) -> None:
    def vocabulary(folder: Path) -> Any:
        return json.loads((folder / "tokenizer.json").read_bytes())["model"].get("vocab")

    for other in others - {model}:
        if vocabulary(other) != vocabulary(model):
            raise BadInput(f"{model} and {other} have different vocabularies, so that token ids differ; give one that fits")
