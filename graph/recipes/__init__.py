"""Recipes by name. A new one is its module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from graph.recipes.azr import azr
from graph.recipes.base import base
from graph.recipes.darc import darc
from graph.recipes.darc_shuffled import darc_shuffled
from graph.recipes.gasp import gasp
from graph.recipes.gasp_real import gasp_real
from graph.recipes.goalpost_shown_to_lift import goalpost_shown_to_lift
from graph.recipes.hard_only import hard_only
from graph.recipes.lemma_only import lemma_only
from graph.recipes.lift_only import lift_only
from graph.recipes.no_io_axis import no_io_axis
from graph.recipes.no_rejection_sampling import no_rejection_sampling
from graph.recipes.one_step_hard import one_step_hard
from graph.recipes.one_step_medium import one_step_medium
from graph.recipes.r_tuning import r_tuning
from graph.recipes.r_tuning_r import r_tuning_r
from graph.recipes.r_tuning_u import r_tuning_u
from graph.recipes.recipe import Recipe
from graph.recipes.rewards import RewardSettings
from graph.recipes.rlvr import rlvr
from graph.recipes.sft_vanilla import sft_vanilla
from graph.recipes.soar import soar
from graph.recipes.soar_base_t import soar_base_t
from graph.recipes.soar_intrinsic import soar_intrinsic
from graph.recipes.soar_null import soar_null
from graph.recipes.sqlm import sqlm
from graph.recipes.sqlm_format import sqlm_format
from graph.recipes.sqlm_frozen import sqlm_frozen
from graph.recipes.sqlm_truth import sqlm_truth

RECIPES: dict[str, Callable[[RewardSettings], Recipe]] = {
    made.__name__: made
    for made in (
        gasp,
        gasp_real,
        one_step_medium,
        one_step_hard,
        no_rejection_sampling,
        no_io_axis,
        lemma_only,
        lift_only,
        goalpost_shown_to_lift,
        azr,
        rlvr,
        base,
        sqlm,
        sqlm_format,
        sqlm_frozen,
        sqlm_truth,
        r_tuning,
        r_tuning_r,
        r_tuning_u,
        sft_vanilla,
        darc,
        darc_shuffled,
        soar,
        soar_intrinsic,
        soar_base_t,
        soar_null,
        hard_only,
    )
}
"""By name, which is that of the function; its docstring says in a sentence what is played."""
