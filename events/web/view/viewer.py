"""The runs that the viewer shows. Folders are scanned again and again, so that new runs appear; a run keeps its address."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qs, urlencode, urlsplit

from events.cli.app import LOG_NAME, holds_log, run_name
from events.facts.errors import BadInput, GaspError
from events.stores import is_url, runs_in_database
from events.web.view.not_found import NotFound
from events.web.view.notifier import Notifier
from events.web.view.run_handle import RunHandle

RESCAN_S = 2.0
"""Seconds between two scans of folders, at least."""
WATCHED = 50
"""Runs whose changes are reported to a client that looks at the list of runs."""
_NOT_IN_SLUGS = re.compile(r"[^A-Za-z0-9._-]+")


class Viewer:
    """The runs at the places that a command line names."""

    def __init__(self, locations: Sequence[str]) -> None:
        """Find the runs at run folders, log files, folders of runs and postgresql:// URLs (without `run=`: all of a database).

        Raises:
            BadInput: there is nothing at a place.
        """
        self.notifier = Notifier()
        """Notified whenever any run changes."""
        self.closing = False
        self._locations = tuple(locations)
        self._lock = threading.Lock()
        self._runs: dict[str, RunHandle] = {}
        """By where the log is."""
        self._scanned = 0.0
        for location in locations:
            if not is_url(location) and not Path(location).exists():
                raise BadInput(f"There is nothing at {location}; give a run's folder, its {LOG_NAME}, or a folder of runs.")
        self._scan()

    def runs(self) -> list[RunHandle]:
        """All runs, the one written to last first."""
        with self._lock:
            if monotonic() - self._scanned > RESCAN_S:
                self._scan()
            runs = list(self._runs.values())
        return sorted(runs, key=_written, reverse=True)

    def run(self, slug: str) -> RunHandle:
        """The run of an address; NotFound if there is none."""
        with self._lock:
            match = next((run for run in self._runs.values() if run.slug == slug), None)
        if match is None:
            runs = self.runs()
            match = next((run for run in runs if run.slug == slug), None)
        if match is None:
            names = ", ".join(run.slug for run in runs[:10]) or "none"
            raise NotFound(f"There is no run {slug!r} here; there are {names}{' …' if len(runs) > 10 else ''}.")
        return match

    @property
    def position(self) -> int:
        """A number that grows with every new run, and with every event of the runs that are watched."""
        runs = self.runs()
        return len(runs) + sum(_position(run) for run in runs[:WATCHED])

    def end(self) -> None:
        """End live streams."""
        self.closing = True
        self.notifier.notify()
        for run in self._runs.values():
            run.notifier.notify()

    def close(self) -> None:
        """End live streams and close all logs."""
        self.end()
        for run in self._runs.values():
            run.stop()
        for run in self._runs.values():
            run.close()

    def _scan(self) -> None:
        present = {where: None for location in self._locations for where in _runs_at(location)}
        for where in [where for where in self._runs if where not in present]:
            self._runs.pop(where).close()
        slugs = {run.slug for run in self._runs.values()}
        for where in present:
            if where not in self._runs:
                name = _name(where)
                slug = _slug(name, slugs)
                slugs.add(slug)
                self._runs[where] = RunHandle(name, slug, where, self.notifier)
        self._scanned = monotonic()


def _runs_at(location: str) -> Iterator[str]:
    """The runs at a place, as command lines name them."""
    if is_url(location):
        parts = urlsplit(location)
        query = parse_qs(parts.query)
        if "run" in query:
            yield location
            return
        for run in runs_in_database(location):
            yield parts._replace(query=urlencode({**query, "run": run}, doseq=True)).geturl()
    elif Path(location).is_file() or holds_log(Path(location)):
        yield location
    elif Path(location).is_dir():
        yield from sorted(str(path) for path in Path(location).iterdir() if holds_log(path))


def _position(run: RunHandle) -> int:
    with suppress(GaspError):
        return run.position
    return 0


def _name(where: str) -> str:
    # A run that cannot be read still has its row in the list, which says why.
    with suppress(GaspError):
        return run_name(where)
    return Path(where).absolute().name


def _slug(name: str, taken: set[str]) -> str:
    # Addresses that end in .json are JSON endpoints.
    plain = _NOT_IN_SLUGS.sub("-", name).removesuffix(".json").strip(".") or "run"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(slug for slug in numbered if slug not in taken)


def _written(run: RunHandle) -> float:
    """When a run's file was last written; a run in a database counts as the latest."""
    if is_url(run.where):
        return float("inf")
    path = Path(run.where)
    files = [path / LOG_NAME, path / f"{LOG_NAME}-wal"] if path.is_dir() else [path, path.with_name(f"{path.name}-wal")]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
