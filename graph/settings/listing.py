"""The list that `--settings` prints: each setting with its default, the values that it takes, and its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from graph.settings.config import Config
from graph.settings.configure import all_settings
from graph.settings.number_types import MOST, nested_types

FIRST: Final = frozenset(
    (
        *("seed", "recipe", "model", "prompts", "goalposts", "practice", "test"),
        *("play.iterations", "play.episodes", "play.student.max_tokens", "play.teacher.max_tokens"),
        *("serve.backend", "learn.learning_rate", "learn.lora.rank", "evaluate.every"),
    )
)
"""Settings that people change first."""


def listing(*, everything: bool) -> Iterator[RenderableType]:
    """The settings that people change first, or all of them by group."""
    group = ""
    for key, default, field in all_settings():
        if everything and key.rpartition(".")[0].partition(".")[0] != group:
            group = key.partition(".")[0]
            yield Text(f"\n{group}: {Config.model_fields[group].description}", style="bold")
        if everything or key in FIRST:
            values = _values(field)
            yield Text.assemble((key, "bold"), f" = {_default(default)}", (f"   ({values})" if values else "", "dim"))
            yield Padding(Text(" ".join((field.description or "").split())), (0, 0, 0, 4))
    if not everything:
        yield Text("\n--settings --all lists every setting.", style="dim")


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value) or "empty"


def _values(field: FieldInfo) -> str:
    """The values that a setting takes, in words; empty for texts."""
    types = list(nested_types(field.annotation))
    choices = ", ".join(str(choice) for kind in types if get_origin(kind) is Literal for choice in get_args(kind))
    if choices or bool in types:
        return choices or "true, false"
    if not {int, float} & set(types):
        return ""
    limits = [*field.metadata, *(limit for kind in types if isinstance(kind, FieldInfo) for limit in kind.metadata)]
    words = [f"above {limit.gt:g}" for limit in limits if hasattr(limit, "gt")]
    words += [f"from {limit.ge:g}" for limit in limits if hasattr(limit, "ge")]
    words += [f"to {limit.le:,}" for limit in limits if hasattr(limit, "le") and limit.le < MOST]
    return " ".join(words)
