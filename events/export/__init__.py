"""Exports a log into the formats of other tools, a module for each format.

Guarantees: an exporter writes one new folder and changes no log; equal logs give equal data. Formats are imported on demand,
because most of them need extra packages.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from events.facts.errors import BadInput, LogError
from events.process.home import ensure_home
from events.stores.raw import Store


class Exporter(Protocol):
    """Writes a log in some format."""

    def __call__(self, log: Store, out: Path, *, name: str) -> str:
        """Write a log, which a run may be writing, into a new or empty folder; returns a phrase that says what was written.

        Raises:
            BadInput: the format cannot be written there.
            LogError: the log cannot be read, or the folder not be written.
        """
        ...


class ExportFormat(NamedTuple):
    """Where an exporter is, and which extra it needs."""

    load_exporter: str
    """`module:function`."""
    extra: str | None = None
    """The extra of `gasp` that installs its packages; None where it needs no more than the log."""


FORMATS = {
    "parquet": ExportFormat("events.export.parquet:write", "data"),
    "jsonl": ExportFormat("events.export.jsonl:write"),
    "huggingface": ExportFormat("events.export.huggingface:write", "data"),
    "tensorboard": ExportFormat("events.export.tensorboard:write", "tensorboard"),
    "wandb": ExportFormat("events.export.wandb:write", "wandb"),
    "mlflow": ExportFormat("events.export.mlflow:write", "mlflow"),
    "otel": ExportFormat("events.export.otel:write", "otel"),
}
"""Every format, by the name that `gasp log export --to` takes."""


def load_exporter(name: str) -> Exporter:
    """The exporter of a format; BadInput if there is none, or a package that it needs is missing."""
    if name not in FORMATS:
        raise BadInput(f"There is no format {name!r}; the formats are {', '.join(FORMATS)}.")
    path, extra = FORMATS[name]
    module, _, function = path.partition(":")
    with requires_extra(extra) if extra else nullcontext():
        exporter: Exporter = getattr(import_module(module), function)
    return exporter


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Import packages of an extra, of which some need a home folder; BadInput if one is missing."""
    ensure_home()
    try:
        yield
    except ModuleNotFoundError as error:
        raise BadInput(f"This needs {error.name}, which is not installed; run `pip install 'gasp[{extra}]'`.") from error


def check_empty(out: Path) -> None:
    """Check that an export would overwrite nothing; BadInput if something is there already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists and is not empty; name a new folder with --out.")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A new folder that is renamed to `out` once all is written, and otherwise removed.

    Raises:
        BadInput: something is there already.
        LogError: it cannot be written.
    """
    check_empty(out)
    target = out.absolute()
    draft = target.with_name(f"{target.name}.draft-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.rename(out)
    except UnicodeEncodeError as error:
        raise BadInput(f"The name {out} is not UTF-8, which this format needs; name another folder with --out.") from error
    except OSError as error:
        reason = error.strerror or error
        raise LogError(f"The export {out} cannot be written ({reason}); name another folder with --out.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
