"""Lays the settings that a recipe names beneath those that are set."""

from __future__ import annotations

from typing import Any

from graph.recipes import RECIPES
from graph.recipes.rewards import RewardSettings, SettingsGroup


def with_recipe_settings(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings as a tree, and beneath them those that its recipe names."""
    made = RECIPES.get(str(tree.get("recipe")))
    for key, setting in made(RewardSettings()).settings.items() if made else ():
        group, name = key.split(".")
        others = tree.get(group, {})
        others = others.model_dump(exclude_unset=True) if isinstance(others, SettingsGroup) else others
        # What is no group is refused by name later.
        tree = {**tree, group: {name: setting, **others}} if isinstance(others, dict) else tree
    return tree
