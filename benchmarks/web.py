"""`make bench-web`: measures the viewer on a log of a million events and writes its section of `docs/benchmarks.md`.

Pages are found by links, and requested of a viewer in a process of its own, in random order. The long log is made once and
kept, with its index.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from math import ceil
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import typer

from benchmarks import section
from benchmarks.command import made_once, run_main
from benchmarks.long_run import LongRun
from benchmarks.page_client import PageClient, PageResponse, page_addresses, viewer_process
from benchmarks.rounds import table
from events.cli.app import LOG_NAME
from events.index.location import INDEX_NAME
from events.stores import open_log

PACKAGES = ("starlette", "uvicorn", "jinja2", "pydantic")
MOST_MS, MOST_KB, MOST_MB = 200, 500, 200
UNIT = "/static/icon.svg"
"""A static file."""
COPIES = 6
"""Runs that are compared."""
SUMMARY = "index.summary.json"
INDEXING = """
import gc, os, resource, sys, time
from contextlib import closing
from pathlib import Path
from events.index.writer import Indexer
from events.stores import open_log
gc.set_threshold(10_000)  # as the viewer has it
with closing(open_log(sys.argv[1], read_only=True)) as log:
    began = time.process_time()
    for _ in log.read():
        pass
    read = time.process_time() - began
    began = time.process_time()
    with closing(Indexer(log, Path(sys.argv[2]))) as indexing:
        indexing.catch_up()
        indexing.catch_up_signs()
    taken = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(log.head().position, read, taken, os.stat(sys.argv[2]).st_size, memory)"""
NOTES = """\
The log is made up by `benchmarks.long_run`. Pages are asked one after the other, each over a connection of its own, in another
random order every round, while the machine does other work (see the load); files that were read before are in its memory. First
byte is the time until the head of the answer is there, when all of the page has been made; "× file" is that by the time that a
static file takes of the same server; sizes are without compression. A search page looks for at most 80 ms or somewhat more, and
says how far that came; older events are searched by its next page."""


class PageFigures(NamedTuple):
    """Measurements of one address."""

    median_ms: float
    p95_ms: float
    kilobytes: float


class PageMeasurement(NamedTuple):
    """A page and its JSON endpoint."""

    page: PageFigures
    json: PageFigures


def main(
    events: Annotated[int, typer.Option(help="Events of the long log.", min=1000)] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often every page is asked.", min=1)] = 20,
    starts: Annotated[int, typer.Option(help="How often the viewer is started.", min=1)] = 3,
    anew: Annotated[int, typer.Option(help="Events of the log that is indexed anew.", min=1000)] = 40_000,
    folder: Annotated[Path, typer.Option(help="Where logs and indexes are made, or lie already.")] = Path("build/bench-web"),
    document: Annotated[Path, typer.Option(help="Where the section is written.")] = section.DOCUMENT,
) -> None:
    """Measure the viewer's pages on a long log. Some minutes; half an hour where the log and its index are still to be made."""
    lines = [f"{section.machine(PACKAGES)}.", "", NOTES]
    with section.step("a long log"):
        run = long_run(folder / "million", events)
    with section.step("its index"), viewer_process([run]) as server:
        server.wait_until_indexed(run.name)
    with section.step("indexing"):
        index = indexed(long_run(folder / "short", anew))
    with section.step("first pages"):
        first, whole = zip(*(started(run) for _ in range(starts)), strict=True)
    with section.step("pages"), viewer_process([run]) as server:
        client = PageClient(server.address)
        measurements = measure_pages(client, page_addresses(client), rounds)
        unit = median(client.get(UNIT).first_ms for _ in range(10 * rounds))
        memory = server.peak_mb()
    with section.step("runs compared"), viewer_process(copies(run, folder / "compared")) as server:
        client = PageClient(server.address)
        side_by_side = {f"{count} runs compared": compared(run, count) for count in (2, COPIES)}
        measurements |= measure_pages(client, side_by_side, rounds)
        more = server.peak_mb()
    sizes = ((run / name).stat().st_size / 1e6 for name in (LOG_NAME, INDEX_NAME))
    held = "a log of {} events, {} MB, with an index of {} MB".format(spaced(events), *map(spaced, sizes))
    aim = f"< {MOST_MS} ms, < {MOST_KB} kB"
    head = ["page", "first byte, median", "95 %", "× file", "size", "JSON, median", "its size", aim]
    lines += ["", f"Pages of {held}; a static file takes {unit:.1f} ms:", "", *table(head, list(rows(measurements, unit)))]
    met = "met" if memory < MOST_MB else "missed"
    lines += [
        "",
        f"The server held {memory:.0f} MB at most while the pages of the one run were asked (aim: < {MOST_MB} MB: {met}), and "
        f"{more:.0f} MB\nwith {COPIES} such runs open at once. The first page after a start, the run's, took "
        f"{median(first):.0f} ms ({min(first):.0f}–{max(first):.0f}); what it did not show\nyet was there after "
        f"{median(whole):.0f} ms ({min(whole):.0f}–{max(whole):.0f}).",
        "",
        "Making an index, CPU seconds of one thread:",
        "",
    ]
    head = ["events", "index", "events a second", "× reading the log", "its size", "by the log's", "memory"]
    lines += table(head, [index])
    section.write(document, "web", "The viewer", lines)
    slowest = max(measurements, key=lambda name: measurements[name].page.median_ms)
    sys.stdout.write(f"{memory:.0f} MB; {unit:.1f} ms a file; {measurements[slowest].page.median_ms:.0f} ms: {slowest}\n")


def compared(run: Path, count: int) -> str:
    """The address of copies of a run, side by side."""
    return "/compare?" + "&".join(f"run={run.name}-{number}" for number in range(count))


def long_run(folder: Path, events: int) -> Path:
    """The folder of a run of so many events, made once and kept."""

    def make(draft: Path) -> None:
        draft.mkdir(parents=True)
        with closing(open_log(draft / LOG_NAME, create=True)) as log:
            LongRun(log, 0).write(events)

    return made_once(folder, make)


def indexed(run: Path) -> list[str]:
    """A table row: time, size and memory of indexing a log anew."""
    index = run / "fresh.sqlite"
    for end in ("", "-wal", "-shm"):
        index.with_name(f"{index.name}{end}").unlink(missing_ok=True)
    command = [sys.executable, "-c", INDEXING, str(run / LOG_NAME), str(index)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    events, reading, taken, size, memory = (float(number) for number in output)
    sizes = [f"{size / 1e6:.0f} MB", f"{size / (run / LOG_NAME).stat().st_size:.2f}", f"{memory / 1e3:.0f} MB"]
    return [spaced(events), f"{taken:.0f} s", spaced(events / taken), f"{taken / reading:.0f}", *sizes]


def started(run: Path) -> tuple[float, float]:
    """Milliseconds from a start until the first page of a run, and until one that shows all of it."""
    with viewer_process([run]) as server:
        client, address, began = PageClient(server.address), f"/runs/{run.name}", time.perf_counter()
        first = client.get(address).first_ms
        while "Reading the log" in client.read(address):
            time.sleep(0.05)
        return first, 1000 * (time.perf_counter() - began)


def copies(run: Path, folder: Path) -> list[Path]:
    """The same run in several folders, with its figures where they are kept."""
    made = [folder / f"{run.name}-{number}" for number in range(COPIES)]
    for copy in made:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        for name in (LOG_NAME, SUMMARY):
            if (run / name).exists():
                os.link(run / name, copy / name)
    return made


def measure_pages(client: PageClient, addresses: Mapping[str, str], rounds: int) -> dict[str, PageMeasurement]:
    """Request every page and its JSON `rounds` times, in random order."""
    paths = [path for page in addresses.values() for path in (page, json_address(page))]
    responses: dict[str, list[PageResponse]] = {path: [] for path in paths}
    rng = random.Random(0)  # noqa: S311  # an order, no secret
    for _ in range(rounds):
        for path in rng.sample(paths, len(paths)):
            responses[path].append(client.get(path))
    figures = {path: _figures(answers) for path, answers in responses.items()}
    return {name: PageMeasurement(figures[page], figures[json_address(page)]) for name, page in addresses.items()}


def json_address(page: str) -> str:
    """The address of a page's JSON."""
    path, mark, query = page.partition("?")
    return f"{'/index' if path == '/' else path}.json{mark}{query}"


def _figures(answers: Sequence[PageResponse]) -> PageFigures:
    taken = sorted(answer.first_ms for answer in answers)
    return PageFigures(median(taken), taken[ceil(0.95 * len(taken)) - 1], max(answer.size for answer in answers) / 1000)


def rows(measurements: Mapping[str, PageMeasurement], unit: float) -> Iterator[list[str]]:
    """A table row for each page."""
    for name, (page, its_json) in measurements.items():
        times = [f"{page.median_ms:.0f} ms", f"{page.p95_ms:.0f} ms", f"{page.median_ms / unit:.0f}"]
        of_json = [f"{its_json.median_ms:.0f} ms", f"{its_json.kilobytes:.0f} kB"]
        met = "met" if page.median_ms < MOST_MS and page.kilobytes < MOST_KB else "missed"
        yield [name, *times, f"{page.kilobytes:.0f} kB", *of_json, met]


def spaced(number: float) -> str:
    """A whole number with digits in groups of three."""
    return f"{number:,.0f}".replace(",", " ")


if __name__ == "__main__":
    run_main(main)
