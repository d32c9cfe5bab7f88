"""All runs that are looked at, found where the command line said.

Law: a folder of runs is looked through again and again, so that new runs appear by themselves; a run keeps its address for
as long as the viewer lives.
"""

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
"""How often folders are looked through again, at most."""
WATCHED = 50
"""Runs that are watched for somebody who looks at all of them."""
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class Viewer:
    """The runs."""

    def __init__(self, places: Sequence[str]) -> None:
        """Find the runs.

        Args:
            places: run folders, log files, folders of runs, and postgresql:// URLs (without `run=`, all of the database).

        Raises:
            BadInput: there is nothing at a place.
        """
        self.notifier = Notifier()
        """Rung whenever any run moves."""
        self.closing = False
        self._places = tuple(places)
        self._lock = threading.Lock()
        self._runs: dict[str, RunHandle] = {}
        """By where they are."""
        self._looked = 0.0
        for place in places:
            if not is_url(place) and not Path(place).exists():
                raise BadInput(f"There is nothing at {place}; give a run's folder, its {LOG_NAME}, or a folder of runs.")
        self._look()

    def runs(self) -> list[RunHandle]:
        """Every run there is now, the one that was written to last first."""
        with self._lock:
            if monotonic() - self._looked > RESCAN_S:
                self._look()
            runs = list(self._runs.values())
        return sorted(runs, key=_written, reverse=True)

    def run(self, slug: str) -> RunHandle:
        """The run of that name in addresses.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            found = next((run for run in self._runs.values() if run.slug == slug), None)
        if found is None:
            runs = self.runs()
            found = next((run for run in runs if run.slug == slug), None)
        if found is None:
            names = ", ".join(run.slug for run in runs[:10]) or "none"
            raise NotFound(f"There is no run {slug!r} here; there are {names}{' …' if len(runs) > 10 else ''}.")
        return found

    @property
    def position(self) -> int:
        """A number that grows with every run there is and every event of those that were written to last."""
        runs = self.runs()
        return len(runs) + sum(_position(run) for run in runs[:WATCHED])

    def end(self) -> None:
        """Let live streams end."""
        self.closing = True
        self.notifier.notify()
        for run in self._runs.values():
            run.notifier.notify()

    def close(self) -> None:
        """Let all logs go."""
        self.end()
        for run in self._runs.values():
            run.stop()
        for run in self._runs.values():
            run.close()

    def _look(self) -> None:
        there = {where: None for place in self._places for where in _found(place)}
        for where in [where for where in self._runs if where not in there]:
            self._runs.pop(where).close()
        slugs = {run.slug for run in self._runs.values()}
        for where in there:
            if where not in self._runs:
                name = _name(where)
                slug = _slug(name, slugs)
                slugs.add(slug)
                self._runs[where] = RunHandle(name, slug, where, self.notifier)
        self._looked = monotonic()


def _found(place: str) -> Iterator[str]:
    """Where the runs of a place are, as command lines name them."""
    if is_url(place):
        parts = urlsplit(place)
        query = parse_qs(parts.query)
        if "run" in query:
            yield place
            return
        for run in runs_in_database(place):
            yield parts._replace(query=urlencode({**query, "run": run}, doseq=True)).geturl()
    elif Path(place).is_file() or holds_log(Path(place)):
        yield place
    elif Path(place).is_dir():
        yield from sorted(str(path) for path in Path(place).iterdir() if holds_log(path))


def _position(run: RunHandle) -> int:
    with suppress(GaspError):
        return run.position
    return 0


def _name(where: str) -> str:
    # A folder that cannot be read has its line in the list, which says why.
    with suppress(GaspError):
        return run_name(where)
    return Path(where).absolute().name


def _slug(name: str, taken: set[str]) -> str:
    # An address that ends so is that of a twin.
    plain = _ODD.sub("-", name).removesuffix(".json").strip(".") or "run"
    numbered = (plain if number == 1 else f"{plain}-{number}" for number in range(1, len(taken) + 2))
    return next(slug for slug in numbered if slug not in taken)


def _written(run: RunHandle) -> float:
    """When a run's file was written to last; what is in a database comes first."""
    if is_url(run.where):
        return float("inf")
    path = Path(run.where)
    files = [path / LOG_NAME, path / f"{LOG_NAME}-wal"] if path.is_dir() else [path, path.with_name(f"{path.name}-wal")]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
