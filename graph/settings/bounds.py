"""Largest and smallest values of numbers in the settings, so that a typing error is refused instead of exhausting memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel

DEFAULT_MAXIMUM: Final = 1_000_000_000
"""Largest value of any other number."""
MAXIMA: Final[Mapping[str, float]] = {
    "play.samples": 10**15,
    "play.episodes": 10_000,
    "play.attempts": 10_000,
    "play.gap_attempts": 10_000,
    "play.max_attempts": 100,
    "play.solve_attempts": 10_000,
    "play.practice": 100_000,
    "play.practice_attempts": 10_000,
    "play.pairs": 100,
    "play.public_pairs": 99,
    "max_prompt_tokens": 10_000_000,
    "serve.replicas": 1_000,
    "serve.tensor_parallel": 1_000,
    "threads": 1_000,
    "verify.wall_seconds": 86_400,
    "verify.memory_mb": 1_000_000,
    "verify.output_kb": 65_536,
    "verify.workers": 1_000,
    "rewards.repeated": 1_000,
    "rewards.wrong": 1_000,
    "rewards.malformed": 1_000,
    "learn.learning_rate": 10,
    "learn.teacher_learning_rate": 10,
    "learn.lora.rank": 10_000,
    "learn.epochs": 1_000,
    "learn.processes": 1_000,
    "evaluate.attempts": 10_000,
    "evaluate.every_samples": 10**15,
    **{f"{who}.max_tokens": 1_000_000 for who in ("play.student", "play.teacher", "evaluate.sampling")},
    **{f"{who}.temperature": 1_000 for who in ("play.student", "play.teacher", "evaluate.sampling")},
}
"""Largest absolute value, by setting."""
MINIMA: Final[Mapping[str, float]] = {
    "verify.wall_seconds": 0.1,
    **{f"{who}.temperature": 0.001 for who in ("play.student", "play.teacher", "evaluate.sampling")},
}
"""Smallest value that is not 0, by setting."""
UNBOUNDED: Final = ("seed",)
"""Settings without bounds."""


def check_bounds(settings: BaseModel) -> None:
    """Check that every number is within its bounds.

    Raises:
        ValueError: one is not; names the setting.
    """
    for key, value in _numbers(settings):
        most = MAXIMA.get(key, DEFAULT_MAXIMUM)
        if key not in UNBOUNDED and abs(value) > most:
            raise ValueError(f"{key} ({value:g}) may be {most:,} at most")
        if value and value < MINIMA.get(key, value):
            raise ValueError(f"{key} ({value:g}) may be {MINIMA[key]:g} at least")


def check_number_types(model: type[BaseModel], tree: object, prefix: str = "") -> None:
    """Check that no number is given as true or false, which Python takes for 1 and 0.

    Raises:
        ValueError: one is; names the setting.
    """
    for name, value in tree.items() if isinstance(tree, dict) else ():
        field = model.model_fields.get(name)
        kinds = set() if field is None else set(nested_types(field.annotation))
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError(f"{prefix}{name} is a number, and cannot be {str(value).lower()}")
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is not None:
            check_number_types(inner, value, f"{prefix}{name}.")


def nested_types(annotation: Any) -> Iterator[Any]:
    """An annotation and everything inside it, such as `int` and its `Field` in `Annotated[int, Field(ge=0)] | None`."""
    yield annotation
    for inner in get_args(annotation):
        yield from nested_types(inner)


def _numbers(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
