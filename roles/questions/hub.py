"""Benchmarks from the Hugging Face hub, by pinned names of data sets and files.

Guarantees: data only; no code of the hub is ever run. Nothing is imported or fetched before it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from events.facts.errors import BadInput
from events.text.safe_text import one_line
from roles.questions.fields import Record
from roles.questions.files import FileRecord

TABLES: dict[str, tuple[str, str | None]] = {
    "humaneval": ("openai/openai_humaneval", None),
    "humanevalplus": ("evalplus/humanevalplus", None),
    "mbpp": ("google-research-datasets/mbpp", "full"),
    "mbppplus": ("evalplus/mbppplus", None),
    "cruxeval": ("cruxeval-org/cruxeval", None),
}
"""Data set and configuration, by name, of benchmarks that are tables on the hub; all splits are read."""
LIVECODEBENCH = "livecodebench/code_generation_lite"
"""LiveCodeBench's data set, whose files are JSON lines."""


def hub_records(name: str) -> Iterator[FileRecord]:
    """The records of a benchmark that is a table on the hub; BadInput if it cannot be fetched."""
    repository, configuration = TABLES[name]
    try:
        from datasets import load_dataset

        splits = load_dataset(repository, configuration)
    except Exception as error:  # the library's errors, those of its transports, and the lack of it have no common class
        raise _missing(repository, name, error) from error
    for split, records in splits.items():
        for number, values in enumerate(records, 1):
            yield FileRecord(f"{repository}, {split} {number}", Record(dict(values)))


def hub_file(name: str) -> Path:
    """A file of LiveCodeBench, downloaded if it is not here yet; BadInput if it cannot be fetched."""
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(LIVECODEBENCH, name, repo_type="dataset"))
    except Exception as error:  # as above
        raise _missing(f"{LIVECODEBENCH} ({name})", "livecodebench", error) from error


def _missing(what: str, name: str, error: Exception) -> BadInput:
    if isinstance(error, ImportError):
        return BadInput(
            f"The hub's {what} needs a package that is missing ({error}): pip install 'gasp[train]', or give {name}:FILE."
        )
    why = one_line(str(error), 120)
    return BadInput(f"The hub's {what} cannot be had ({why}); allow the network, or give its file: {name}:FILE.")
