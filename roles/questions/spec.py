"""Parses the setting that names a question set: `pocket`, `NAME[:FILE][?key=value&...]`, or the path of a JSONL file.

Guarantees: what is not understood is an error that says what would be. No file is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from events.facts.errors import BadInput
from roles.questions.pocket_folders import POCKET_FOLDERS

Values = tuple[str, ...] | type[date] | type[int] | type[str]
"""The values of an option: one of these words, a date, a number from 1 on, or any text."""


@dataclass(frozen=True)
class Spec:
    """The setting that names a question set, parsed."""

    name: str
    """The named set; `jsonl` for a file of one's own."""
    place: Path | None = None
    """The file or folder; None: the hub."""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The set's name for the log, without the path."""
        stem = self.place.name.split(".")[0] if self.place and self.name == "jsonl" else self.name
        return "-".join(
            [stem, *(value if key in ("paper", "split") else f"{key}={value}" for key, value in self.options.items())]
        )


def parse_setting(text: str, keys: Mapping[str, Mapping[str, Values]]) -> Spec:
    """Parse a setting; `keys`: options and their values by set. BadInput for an unknown set, file, option or value."""
    head, mark, tail = text.partition("?")
    name, colon, place = head.partition(":")
    if name not in keys:
        path = Path(text).expanduser()
        if path.is_dir():
            raise BadInput(
                f"{text} is a folder; name a JSONL file in it, or a benchmark with it, such as livecodebench:{text}."
            )
        if not path.is_file():
            raise BadInput(
                f"There is no question set {text!r}: it is neither a JSONL file nor one of"
                f" {', '.join((*POCKET_FOLDERS, *keys))}; check it."
            )
        return Spec("jsonl", path)
    if colon and not place:
        raise BadInput(f"{text!r} names no file after {name}:; add it, or leave out the colon.")
    options: dict[str, str] = {}
    for part in tail.split("&") if mark else ():
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise BadInput(f"{text!r}: {part!r} is no setting of its own; write ?key=value&key=value, each key once.")
        options[key] = _checked(name, key, value, keys[name])
    return Spec(name, Path(place).expanduser() if place else None, options)


def _checked(name: str, key: str, value: str, options: Mapping[str, Values]) -> str:
    if key not in options:
        raise BadInput(f"{name} has no setting {key!r}; there are {', '.join(options)}.")
    wanted = options[key]
    if isinstance(wanted, tuple):
        if value not in wanted:
            raise BadInput(f"{name}?{key}={value}: there is no {key} {value!r}; choose one of {', '.join(wanted)}.")
    elif wanted is date:
        try:
            strict = date.fromisoformat(value).isoformat() == value
        except ValueError:
            strict = False
        if not strict:
            raise BadInput(f"{name}?{key}={value}: {value!r} is no date; write it like 2024-08-01.")
    elif wanted is int and not (value.isascii() and value.isdecimal() and 0 < int(value) < 10**9):
        raise BadInput(f"{name}?{key}={value}: {value!r} is no number from 1 on.")
    return value
