"""Where real benchmark records lie, for tests that need them. The project ships none."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / "shared"
DATA = SHARED / "data"


def record_file(name: str) -> Path:
    """A file of real records; skips the test where it is absent."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"real benchmark file {name} is not on this machine")
    return path


def case_file(name: str) -> Path:
    """A file of answers with the verdicts of others; skips the test where it is absent."""
    path = SHARED / "cases" / name
    if not path.is_file():
        pytest.skip(f"the file of graded answers {name} is not on this machine")
    return path
