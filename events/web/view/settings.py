"""A run's settings, in which secrets (by name or by form) are masked, for pages and JSON endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from events.projections.run_summary import RunSummary
from events.text.secrets import MASK, is_secret, mask


def without_secrets(value: Any, name: str = "") -> Any:
    """Plain data with its secrets masked."""
    match value:
        case Mapping():
            return {key: without_secrets(part, str(key)) for key, part in value.items()}
        case list() | tuple():
            return [without_secrets(part, name) for part in value]
        case str() | int() | float() if is_secret(name) and value != "":
            return MASK
        case str():
            return mask(value)
    return value


def flat_settings(summary: RunSummary) -> dict[str, Any]:
    """Settings by dotted name, sorted by name."""
    config = summary.started.config if summary.started else {}
    return dict(sorted(_flat(without_secrets(config))))


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
