"""Resolves relative file names in a run's settings against the folder that the run was started in.

Settings are recorded as given, so that equal runs have equal head hashes on every machine; the folder is an observation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from events.facts.log import Log, first_event
from events.facts.streams import RUN
from graph.settings.config import Config

OBSERVED_DIRECTORY: Final = "directory"
"""In what `RunStarted` observed: the working directory."""
_SETS: Final = ("goalposts", "practice", "test", "validation")


def working_directory() -> dict[str, str]:
    """What is to be observed when a run starts."""
    return {OBSERVED_DIRECTORY: str(Path.cwd())}


def with_absolute_paths(config: Config, log: Log) -> Config:
    """The settings of a run with the files that they name as absolute paths, as far as they are still there."""
    first = first_event(log, RUN)
    directory = None if first is None else first.observed.get(OBSERVED_DIRECTORY)
    if directory is None:
        return config
    place = Path(directory)
    found = {key: _set(place, getattr(config, key)) for key in _SETS}
    found |= {"model": _file(place, config.model, "pocket"), "prompts": _prompts(place, config.prompts)}
    verify = config.verify.model_copy(update={"embedding": _file(place, config.verify.embedding, "ngrams")})
    return config.model_copy(update={**found, "verify": verify})


def _set(place: Path, spec: str) -> str:
    """A question set: a file, or a name with a file."""
    head, mark, tail = spec.partition("?")
    name, colon, file = head.partition(":")
    if file:
        return f"{name}{colon}{_file(place, file)}{mark}{tail}"
    return _file(place, spec, "pocket", "none", "goalposts")


def _prompts(place: Path, spec: str) -> str:
    from roles.prompt import shipped_sets

    return _file(place, spec, *shipped_sets())


def _file(place: Path, name: str, *words: str) -> str:
    """An absolute path if there is such a file; not where the name is one of these words."""
    return str(place / name) if name not in words and (place / name).exists() else name
