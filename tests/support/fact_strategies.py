"""Hypothesis strategies for facts: every kind, with any text, number and nesting that JSON can carry."""

from __future__ import annotations

import types
import typing
from typing import Any

from annotated_types import MinLen
from hypothesis import strategies as st
from pydantic import BaseModel

from events.facts.fact import Fact
from events.facts.upcast import FACT_TYPES
from events.facts.values import OUTCOME_LETTERS, OutcomeLetters, Sampling

numbers = st.floats(allow_nan=False, allow_infinity=False)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
samplings = st.builds(Sampling, temperature=st.floats(0, 10), top_p=st.floats(0.01, 1), max_tokens=st.integers(1, 10**6))


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    if isinstance(annotation, typing.NewType):
        return values_of(annotation.__supertype__)
    if annotation is Any:
        return jsons
    if annotation is Sampling:
        return samplings
    if annotation == OutcomeLetters:
        return st.text("".join(OUTCOME_LETTERS), max_size=12)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models_of(annotation)
    simple = {str: st.text(max_size=12), int: st.integers(), float: numbers, bool: st.booleans(), type(None): st.none()}
    if annotation in simple:
        return simple[annotation]
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return not_empty(values_of(inside[0]), inside[1].metadata)
    if origin is typing.Literal:
        return st.sampled_from(inside)
    if origin is tuple:
        return st.lists(values_of(inside[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values_of(inside[0]), values_of(inside[1]), max_size=3)
    assert origin in (typing.Union, types.UnionType), annotation
    return st.one_of([values_of(option) for option in inside])


def not_empty(values: st.SearchStrategy[Any], metadata: list[Any]) -> st.SearchStrategy[Any]:
    """The values without empty ones, if that is what a field says of them."""
    return values.filter(bool) if MinLen(1) in metadata else values


def models_of(cls: type[BaseModel]) -> st.SearchStrategy[Any]:
    fields = {name: not_empty(values_of(field.annotation), field.metadata) for name, field in cls.model_fields.items()}
    return st.builds(cls, **fields)


def facts() -> st.SearchStrategy[Fact]:
    return st.one_of([models_of(cls) for cls in FACT_TYPES.values()])
