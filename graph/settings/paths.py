"""Resolves relative file names in a run's settings against the folder that the run was started in.

Settings are recorded as given, so that equal runs have equal head hashes on every machine; the folder is an observation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from events.facts.log import Log, first_event
from events.facts.streams import RUN
from graph.settings.config import Config
from roles.questions.pocket_folders import POCKET_FOLDERS

OBSERVED_DIRECTORY: Final = "directory"
"""Observation of the `RunStarted` event: the working directory."""
_SETS: Final = ("goalposts", "practice", "test", "validation")


def working_directory() -> dict[str, str]:
    """The observation to attach to `RunStarted`."""
    return {OBSERVED_DIRECTORY: str(Path.cwd())}


def with_absolute_paths(config: Config, log: Log) -> Config:
    """The settings of a run, with absolute paths for the files that they name, as far as these still exist."""
    first = first_event(log, RUN)
    directory = None if first is None else first.observed.get(OBSERVED_DIRECTORY)
    if directory is None:
        return config
    base = Path(directory)
    paths = {key: _set(base, getattr(config, key)) for key in _SETS}
    paths |= {"model": _file(base, config.model, *POCKET_FOLDERS), "prompts": _prompts(base, config.prompts)}
    verify = config.verify.model_copy(update={"embedding": _file(base, config.verify.embedding, "ngrams")})
    documents = config.documents.model_copy(update={"source": _set(base, config.documents.source)})
    return config.model_copy(update={**paths, "verify": verify, "documents": documents})


def _set(base: Path, spec: str) -> str:
    head, mark, tail = spec.partition("?")
    name, colon, file = head.partition(":")
    if file:
        return f"{name}{colon}{_file(base, file)}{mark}{tail}"
    return _file(base, spec, *POCKET_FOLDERS, "none", "goalposts")


def _prompts(base: Path, spec: str) -> str:
    from roles.prompt_set import shipped_sets

    return _file(base, spec, *shipped_sets())


def _file(base: Path, name: str, *words: str) -> str:
    """The file's absolute path; the name itself if there is no such file or the name is one of these words."""
    return str(base / name) if name not in words and (base / name).exists() else name
