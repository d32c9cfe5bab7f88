"""A section of a document that a command rewrites between its marks, with the machine that it was measured on.

All numbers of a section come from one run; an aim that was missed is marked.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.rounds import Claim

DOCUMENT = Path("docs/benchmarks.md")
TITLE = "# Benchmarks\n\nRatios, from one run each, with the machine that they were measured on.\n"


def write(document: Path, name: str, title: str, lines: Sequence[str], command: str = "") -> None:
    """Put the lines where the document has the section that `make bench-NAME`, or `command`, makes, or at its end."""
    begin, end = f"<!-- {name}: begin (made by `{command or f'make bench-{name}'}`) -->", f"<!-- {name}: end -->"
    text = document.read_text(encoding="utf-8") if document.exists() else TITLE
    if begin not in text:
        text = f"{text.rstrip()}\n\n## {title}\n\n{begin}\n{end}\n"
    before, rest = text.split(begin)
    document.parent.mkdir(parents=True, exist_ok=True)
    section = "\n".join((begin, *lines, end))
    document.write_text(f"{before}{section}{rest.split(end)[1]}", encoding="utf-8")


def machine(packages: Sequence[str]) -> str:
    """The machine, and versions of packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join((f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)))
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, "
        f"load {os.getloadavg()[0]:.1f} at the start; {versions}"
    )


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print what is measured, and how long that took."""
    began = time.perf_counter()
    sys.stderr.write(f"{what} ... ")
    sys.stderr.flush()
    yield
    sys.stderr.write(f"{time.perf_counter() - began:.0f} s\n")


def summary(claims: Sequence[Claim]) -> None:
    """Print ratios and aims."""
    for claim in claims:
        sys.stdout.write(f"{claim.ratio.median:8.2f}  {claim.what} / {claim.other}  {claim.aim}\n")
