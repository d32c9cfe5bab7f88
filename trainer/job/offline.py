"""Offline training: a new run that plays nothing and learns from the logs of recorded runs.

Guarantees: the new run's first event names its settings, and its sources by position and head digest; sources are only read.
With the settings and versions of its one source it makes the same weights, bit for bit on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from events.cli.app import LOG_NAME, holds_log, open_run, run_name
from events.facts.errors import BadInput
from events.facts.log import Log, event_at, first_event, run_started
from events.facts.streams import RUN
from events.facts.types import RunStarted
from events.facts.values import SourceLog
from events.facts.weights import weights_digest
from events.stores import open_log
from graph.recipes import RECIPES
from graph.settings.config import Config
from graph.settings.configure import with_overrides
from graph.settings.gguf_folder import gguf_source
from graph.settings.model_location import copy_weights, model_folder
from graph.settings.refusals import refuse_unworkable
from graph.setup.folder import new_folder
from graph.setup.provenance import commit, versions
from trainer.job.update_schedule import TrainingSource

CHANGEABLE: Final = {"seed", "recipe", "model", "policies", "rewards", "learn"}
"""Settings that may differ from those that the sources were played with."""
NUMERIC_VERSIONS: Final = ("torch", "transformers", "trl", "numpy", "threads")
"""Names in `RunStarted.versions` on which the last bits of weights depend."""
SOURCE_PATHS: Final = "sources"
"""Name, in what is observed with `RunStarted`, of the paths of the sources."""


@dataclass(frozen=True)
class SourceRun:
    """A recorded run to learn from, opened."""

    path: Path
    """Its folder, absolute."""
    log: Log
    start: RunStarted

    @property
    def config(self) -> Config:
        """Its settings."""
        return Config.recorded(self.start.config)

    @property
    def weights(self) -> Path:
        """The folder of the weights that it started with.

        Raises:
            BadInput: they are gone.
        """
        digest = self.start.policies["student"]
        folder = self.path / "weights" / digest
        if not folder.is_dir():
            raise BadInput(
                f"{self.path} has lost the weights that it started with ({digest}); restore weights/, or --set model=FOLDER."
            )
        return folder

    def name(self, until: int | None = None) -> SourceLog:
        """The identity of its log, now or at a position: name, position, head digest."""
        end = self.log.head()
        position, head = end.position, end.digest
        if until is not None and until < position:
            last = event_at(self.log, until)
            position, head = until, "" if last is None else last.head
        return SourceLog(name=run_name(str(self.path)), until=position, head=head)


@contextmanager
def open_sources(paths: Sequence[Path]) -> Iterator[tuple[SourceRun, ...]]:
    """Open recorded runs, each by its folder.

    Raises:
        BadInput: a folder holds no run, or a run that was itself trained offline.
    """
    with ExitStack() as stack:
        sources = []
        for path in paths:
            if not path.is_dir():
                raise BadInput(f"There is no run in {path}; --offline takes the folder of a run, with weights/ in it.")
            log = stack.enter_context(closing(open_run(str(path))))
            start = run_started(log)
            if start.sources:
                raise BadInput(
                    f"{path} was itself trained offline and holds nothing that was played; give its sources instead."
                )
            sources.append(SourceRun(path.absolute(), log, start))
        yield tuple(sources)


@dataclass(frozen=True)
class OfflinePlan:
    """A run that learns from recorded runs."""

    start: RunStarted
    """Its first event: settings, and the identities of its sources."""
    model: Path
    """Folder of the weights to start with."""
    sources: tuple[SourceRun, ...]

    def training_sources(self) -> list[TrainingSource]:
        """The sources, with recorded rewards where recipe and reward settings are those of the source."""
        config = Config.recorded(self.start.config)
        rewards = config.recipe, config.rewards
        return [
            TrainingSource(
                run.log, source.until, None if (run.config.recipe, run.config.rewards) == rewards else config.algorithm()
            )
            for run, source in zip(self.sources, self.start.sources, strict=True)
        ]

    def expects_recorded_weights(self) -> bool:
        """Whether the one source was learned with the same settings and versions, so that its weights must come out again."""
        if len(self.sources) != 1:
            return False
        source = self.sources[0]
        alike = all(source.start.versions.get(name) == self.start.versions.get(name) for name in NUMERIC_VERSIONS)
        same_start = source.start.policies == self.start.policies
        return alike and same_start and source.config == Config.recorded(self.start.config)


def plan_offline(
    sources: Sequence[SourceRun], overrides: Sequence[str], *, recredit: str | None, until: int | None
) -> OfflinePlan:
    """Plan a run that learns from recorded runs, with the settings of the first of them, changed by `overrides`.

    `recredit` names the recipe of rewards and advantages; `until` is the last position that counts, where there is one source.

    Raises:
        BadInput: a source cannot be learned from, or a setting is wrong.
    """
    if until is not None and len(sources) > 1:
        raise BadInput(f"--until {until} would be a position of {len(sources)} logs; give one --offline RUN with it.")
    if recredit is not None and recredit not in RECIPES:
        raise BadInput(f"There is no recipe {recredit!r}; --recredit takes one of {', '.join(RECIPES)}.")
    played = sources[0].config
    config = with_overrides(played, [*overrides, *([f'recipe="{recredit}"'] if recredit else [])])
    _check_changes(played, config)
    model = start_weights(sources, None if config.model == played.model else config.model)
    refuse_unworkable(config, model, plays=False)
    start = RunStarted(
        config=json.loads(config.model_dump_json()),
        versions=versions(config, model),
        commit=commit(),
        policies=dict.fromkeys(config.policy_of, weights_digest(model)),
        sources=tuple(source.name(until) for source in sources),
        dequantised=sources[0].start.dequantised if config.model == played.model else gguf_source(config.model, model),
    )
    return OfflinePlan(start, model, tuple(sources))


def open_or_create(folder: Path, plan: OfflinePlan) -> Log:
    """The log of the run that follows the plan, created if it is not there.

    Raises:
        BadInput: the folder holds something else.
    """
    if not folder.exists():
        with new_folder(folder) as unfinished:
            copy_weights(plan.model, unfinished / "weights" / plan.start.policies["student"])
            with closing(open_log(unfinished / LOG_NAME, create=True)) as created:
                paths = [str(source.path) for source in plan.sources]
                created.append(RUN, [plan.start], expected=0, observed={SOURCE_PATHS: paths})
    if not holds_log(folder):
        raise BadInput(f"{folder} is there and is no run; name another folder.")
    log = open_run(str(folder))
    start = run_started(log)
    same_settings = Config.recorded(start.config) == Config.recorded(plan.start.config)
    if not same_settings or (start.sources, start.policies) != (plan.start.sources, plan.start.policies):
        log.close()
        raise BadInput(f"{folder} was started from other sources or with other settings; name another folder.")
    return log


def source_paths(log: Log) -> tuple[Path, ...]:
    """The folders of the sources of a run that was trained offline, as its log says.

    Raises:
        BadInput: it does not say.
    """
    event = first_event(log, RUN)
    assert event is not None
    paths = tuple(Path(path) for path in event.observed.get(SOURCE_PATHS, ()))
    if not isinstance(event.fact, RunStarted) or len(paths) != len(event.fact.sources):
        raise BadInput("The log does not say where its sources are; give them again, with the same --offline and settings.")
    return paths


def resume_plan(start: RunStarted, sources: tuple[SourceRun, ...]) -> OfflinePlan:
    """The plan of a run that was begun before.

    Raises:
        BadInput: a source is not the log that it was.
    """
    for run, source in zip(sources, start.sources, strict=True):
        if run.name(source.until).head != source.head:
            raise BadInput(f"{run.path} is not the log that {source.name} was; restore it, or start a new run.")
    return OfflinePlan(start, Path(), sources)


def start_weights(sources: Sequence[SourceRun], model: str | None = None) -> Path:
    """The folder of the weights to start with: those of the first source, or a model with the same token ids as all sources.

    Raises:
        BadInput: there are none, or the token ids differ.
    """
    folders = [source.weights for source in sources]
    folder = folders[0] if model is None else model_folder(model)
    for other in set(folders) - {folder}:
        if _vocabulary(other) != _vocabulary(folder):
            raise BadInput(f"{folder} and {other} have different vocabularies, so that token ids differ; give one that fits.")
    return folder


def _vocabulary(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_bytes())["model"].get("vocab")


def _check_changes(played: Config, config: Config) -> None:
    before, now = played.model_dump(), config.model_dump()
    fixed = [name for name in before if name not in CHANGEABLE and before[name] != now[name]]
    if fixed:
        changeable = ", ".join(sorted(CHANGEABLE))
        raise BadInput(f"The setting {fixed[0]!r} was played already; offline, only {changeable} can be changed.")
