"""Recipes by name. A new one is its module and one line here."""

from __future__ import annotations

from graph.recipe import Recipe
from graph.recipes.gasp import Gasp

RECIPES: dict[str, Recipe] = {
    "gasp": Gasp(),
    "gasp_real": Gasp(practices=True),
}
"""Name to algorithm; `gasp_real` is GASP + real-data RL, the paper's strongest variant."""
