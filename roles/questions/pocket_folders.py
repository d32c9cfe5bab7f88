"""Folders of the generations of the pocket model, by the name in settings; each has `weights` and `questions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

_POCKET: Final = Path(__file__).parents[1] / "pocket"

POCKET_FOLDERS: Final[Mapping[str, Path]] = {
    "pocket": _POCKET,
    "pocket2": _POCKET / "second",
    "pocket3": _POCKET / "third",
}
"""By name."""
FIRST_POCKET: Final = "pocket"
"""The generation whose question files the others share where they have none of their own."""
