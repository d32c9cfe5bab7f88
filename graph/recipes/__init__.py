"""Recipes by name. A new one is its module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graph.config import Config, RewardSettings
from graph.recipe import Recipe
from graph.recipes.gasp import Gasp

RECIPES: dict[str, Callable[[RewardSettings], Recipe]] = {
    "gasp": Gasp,
    "gasp_real": partial(Gasp, practices=True),
}
"""Name to algorithm; `gasp_real` is GASP + real-data RL, the paper's strongest variant."""


def recipe(config: Config) -> Recipe:
    """The algorithm that a config names."""
    return RECIPES[config.recipe](config.rewards)
