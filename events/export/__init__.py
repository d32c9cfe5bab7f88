"""Takes data out of a log into the formats of other tools, a module for each kind of format.

Law: an exporter reads a log and writes one place; it changes no log, and equal logs give equal data. Formats load when they
are asked for, because most of them need packages that the log does not.
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
        """Write it.

        Args:
            log: the log, which a run may be writing.
            out: a new or empty place.
            name: what the run is called.

        Returns:
            A sentence that says what was written.

        Raises:
            BadInput: the format cannot be written there.
            LogError: the log cannot be read, or the place not be written.
        """
        ...


class ExportFormat(NamedTuple):
    """Where an exporter is, and what it needs."""

    load_exporter: str
    """`module:function`."""
    extra: str | None = None
    """The extra of the package `gasp` that installs what the module imports, if the log alone does without."""


FORMATS = {
    "parquet": ExportFormat("events.export.parquet:write", "data"),
    "jsonl": ExportFormat("events.export.jsonl:write"),
    "huggingface": ExportFormat("events.export.huggingface:write", "data"),
    "tensorboard": ExportFormat("events.export.tensorboard:write", "tensorboard"),
    "wandb": ExportFormat("events.export.wandb:write", "wandb"),
    "mlflow": ExportFormat("events.export.mlflow:write", "mlflow"),
    "otel": ExportFormat("events.export.otel:write", "otel"),
}
"""Every format, by the name that `python -m events export --to` knows."""


def load_exporter(name: str) -> Exporter:
    """The exporter of a format.

    Raises:
        BadInput: there is no such format, or a package that it needs is missing.
    """
    if name not in FORMATS:
        raise BadInput(f"There is no format {name!r}; the formats are {', '.join(FORMATS)}.")
    place, extra = FORMATS[name]
    module, _, function = place.partition(":")
    with requires_extra(extra) if extra else nullcontext():
        found: Exporter = getattr(import_module(module), function)
    return found


@contextmanager
def requires_extra(extra: str) -> Iterator[None]:
    """Import packages of an extra, which may look for the user's home.

    Raises:
        BadInput: one is missing.
    """
    ensure_home()
    try:
        yield
    except ModuleNotFoundError as error:
        raise BadInput(f"This needs {error.name}, which is not installed; run `pip install 'gasp[{extra}]'`.") from error


def check_empty(out: Path) -> None:
    """Make sure that an export would overwrite nothing.

    Raises:
        BadInput: something is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists and is not empty; name a new folder with --out.")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that gets its name once all is written, and otherwise goes.

    Raises:
        BadInput: something is there already.
        LogError: it cannot be written.
    """
    check_empty(out)
    place = out.absolute()
    draft = place.with_name(f"{place.name}.draft-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.rename(out)
    except UnicodeEncodeError as error:
        raise BadInput(f"The name {out} is not UTF-8, which this format needs; name another folder with --out.") from error
    except OSError as error:
        raise LogError(
            f"The export {out} cannot be written ({error.strerror or error}); name another folder with --out."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
