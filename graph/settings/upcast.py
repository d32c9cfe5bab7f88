"""Brings recorded settings of earlier versions up to the present ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

REMOVED: Final[Mapping[str, Any]] = {
    "serve.context": 0,
    "serve.in_flight": 256,
    "serve.timeout_s": 600.0,
    "serve.start_s": 900.0,
    "verify.distinct": 3,
    "play.student.top_p": 1.0,
    "play.student.stop": [],
    "play.teacher.top_p": 1.0,
    "play.teacher.stop": [],
}
"""Settings that this version does not have, with the values that are fixed now."""


def upcast(tree: dict[str, Any]) -> dict[str, Any]:
    """A tree of settings as this version has them."""
    tree = copy.deepcopy(tree)
    serve, play = tree.get("serve", {}), tree.get("play", {})
    if "memory" in serve:
        # One number once stood for both, by the machine that the servers ran on.
        memory = serve.pop("memory")
        tree["serve"] = {"gpu_memory": memory, "kv_cache_gib": memory, **serve}
    if play.get("order") == "free":
        play["order"] = "concurrent"
    for key in REMOVED:
        _pop(tree, key)
    return tree


def removed_settings(tree: dict[str, Any]) -> list[str]:
    """The removed settings that a recorded tree sets to another value than the one that is fixed now."""
    tree = copy.deepcopy(tree)
    return [key for key, fixed in REMOVED.items() if _pop(tree, key, fixed) != fixed]


def _pop(tree: dict[str, Any], key: str, default: Any = None) -> Any:
    *groups, name = key.split(".")
    for group in groups:
        tree = tree.get(group, {})
    return tree.pop(name, default)
