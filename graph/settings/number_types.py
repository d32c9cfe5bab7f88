"""The types of settings that are numbers. True and false are refused; Python takes them for 1 and 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, Field

MOST: Final = 10**9
"""Largest number where nothing smaller is sensible, so that a typing error is refused."""
Natural = Annotated[int, Field(ge=0, le=MOST)]
PositiveInt = Annotated[int, Field(ge=1, le=MOST)]
PositiveFloat = Annotated[float, Field(gt=0, le=MOST)]


def check_number_types(model: type[BaseModel], tree: object, prefix: str = "") -> None:
    """Raise a ValueError that names the setting if a number is given as true or false, which Python takes for 1 and 0."""
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
