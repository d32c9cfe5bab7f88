"""Lays the settings that a recipe names beneath those that are set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from events.facts.values import Value
from graph.recipes import RECIPES
from graph.recipes.recipe import Recipe
from graph.recipes.rewards import RewardSettings


def with_recipe_settings(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings as a tree, and beneath them those that its recipe names."""
    made = RECIPES.get(str(tree.get("recipe")))
    for key, setting in made(RewardSettings()).settings.items() if made else ():
        tree = _with_setting(tree, key.split("."), setting)
    return tree


def with_document_iterations(recipe: Recipe, iterations: int) -> Recipe:
    """The recipe, with so many iterations in which it learns to write about documents, if it does."""
    if not recipe.plan.documents:
        return recipe
    # Every recipe is a frozen dataclass, which a protocol cannot say.
    return cast("Recipe", replace(cast("Any", recipe), plan=replace(recipe.plan, iterations=iterations)))


def _with_setting(tree: dict[str, Any], path: Sequence[str], setting: Any) -> dict[str, Any]:
    name, *rest = path
    if not rest:
        return {name: setting, **tree}
    group = tree.get(name, {})
    group = group.model_dump(exclude_unset=True) if isinstance(group, Value) else group
    # What is no group is refused by name later.
    return {**tree, name: _with_setting(group, rest, setting)} if isinstance(group, dict) else tree
