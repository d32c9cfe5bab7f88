"""Upcasters: pure functions that bring an old fact's data to today's schema, one schema number at a time.

Stored data is never rewritten: upcasting happens on every read, before validation, and hashes stay those of the stored text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from events.facts.errors import LogError
from events.facts.fact import Fact
from events.facts.types import AnyFact

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the data of (kind, schema) and returns the data of (kind, schema + 1)."""


def _add_empty_stop(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "sampling": {**data["sampling"], "stop": []}}


def _add_empty_stop_to_generation(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "generation": _add_empty_stop(data["generation"])}


def _add_own_rules(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "provenance": {**data["provenance"], "per_test": False, "rules": "own"}}


def _add_unrecorded_tests(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "verdicts": [{**verdict, "tests": None} for verdict in data["verdicts"]]}


UPCASTERS: Mapping[tuple[str, int], Upcaster] = MappingProxyType(
    {
        ("attempts_made", 1): _add_empty_stop_to_generation,
        ("attempts_verified", 1): _add_own_rules,
        ("attempts_verified", 2): _add_unrecorded_tests,
        ("evaluation_finished", 1): _add_empty_stop,
        ("policy_served", 1): lambda data: {**data, "difference": None, "mean_difference": None},
        ("policy_updated", 1): lambda data: {**data, "steps": [{**step, "silent": {}} for step in data["steps"]]},
        ("question_proposed", 1): _add_empty_stop_to_generation,
        ("run_started", 1): lambda data: {**data, "sources": []},
    }
)
"""By kind and schema. Schema 2 brought: to `policy_updated`, why completions carried no signal; to `run_started`, the logs that
are learned from; to `policy_served`, how far served weights are from the trainer's; to sampling settings, stop texts; to
verdicts, their rules. Schema 3 brought the outcome of each test to verdicts."""

_UNION = get_args(get_args(AnyFact)[0])
FACT_TYPES: Mapping[str, type[Fact]] = MappingProxyType({cls.model_fields["kind"].default: cls for cls in _UNION})
"""The class of every kind that this version knows."""


def upcast(
    kind: str, schema: int, data: dict[str, Any], target: int, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS
) -> dict[str, Any]:
    """The data in schema `target`.

    Raises:
        LogError: there is no upcaster, most likely because a newer version of the program wrote the event.
    """
    while schema != target:
        if (step := upcasters.get((kind, schema))) is None:
            message = f"There is no way to read {kind} of schema {schema}, this version knows {target}"
            raise LogError(f"{message}; use a newer version.")
        data = step(data)
        schema += 1
    return data
