"""Typed access to the fields of a record, with errors that name the field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
KINDS = {str: "text", list: "a list", dict: "an object", int: "a number", float: "a number", bool: "true or false"}
"""JSON's types in words."""


class FieldError(ValueError):
    """A field that is missing, of the wrong type, or holds what cannot be used."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"field {field}: {problem}")


@dataclass(frozen=True)
class Record:
    """A JSON object of a file."""

    values: dict[str, Any]

    def text(self, field: str, default: str | None = None) -> str:
        """The text in a field, `default` where it is missing; FieldError if it is no text, or missing without a default."""
        return self._typed(field, str, default)

    def items(self, field: str, default: list[Any] | None = None) -> list[Any]:
        """The list in a field; as `text`."""
        return self._typed(field, list, default)

    def texts(self, field: str, default: list[str] | None = None) -> list[str]:
        """The list of texts in a field; as `text`."""
        items = self.items(field, default)
        if not all(isinstance(item, str) for item in items):
            raise FieldError(field, "expected a list of texts, found other items")
        return items

    def number(self, field: str) -> float:
        """The number in a field, 0 where there is none; FieldError if it is no number."""
        value = self.values.get(field, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FieldError(field, f"expected a number, found {json_type(value)}")
        return float(value)

    def _typed(self, field: str, wanted: type[T], default: T | None) -> T:
        if field not in self.values:
            if default is None:
                raise FieldError(field, "missing")
            return default
        value = self.values[field]
        if not isinstance(value, wanted):
            raise FieldError(field, f"expected {KINDS[wanted]}, found {json_type(value)}")
        return value


def json_type(value: object) -> str:
    """The JSON type of a value, in words."""
    return "null" if value is None else KINDS.get(type(value), type(value).__name__)


def decode_json(text: str, field: str) -> Any:
    """The JSON value that a field's text holds; FieldError if it holds none."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise FieldError(field, "its JSON is nested too deeply") from error
    except ValueError as error:
        raise FieldError(field, f"holds no valid JSON ({error})") from error
