"""Preview of an experiment: what each recipe samples and how long that takes, as `graph.estimate.budget` assumes."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from graph.estimate.budget import Budget
from graph.estimate.memory import gpu_of
from graph.estimate.model_dims import dims_of
from graph.estimate.token_estimate import count_evaluations, count_iterations, tokens_of_evaluation, tokens_of_iteration
from trainer.experiments.experiment_plan import ExperimentPlan

COLUMNS = ("recipe", "iterations", "student samples each", "evaluations", "answers each", "hours a run")


def budget_table(plan: ExperimentPlan, gpu: str | None = None) -> Group:
    """A row for each recipe, and the sum of all runs, on a kind of GPU or the default for their model."""
    table = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    hours = disk = 0.0
    for recipe in plan.recipes:
        config = plan.config(recipe, plan.seeds[0])
        dims = dims_of(config.model)
        budget = Budget(config, dims, gpu_of(gpu, dims))
        samples, answers = tokens_of_iteration(config).answers, tokens_of_evaluation(config).answers
        counts = (count_iterations(config), samples, count_evaluations(config), answers)
        table.add_row(recipe, *(f"{count:,.0f}" for count in counts), f"{budget.hours():.1f}")
        hours += budget.hours() * len(plan.seeds)
        disk += budget.disk * len(plan.seeds)
    runs = len(list(plan.cells()))
    total = f"{runs} runs, {hours:,.0f} hours one after the other, {disk / 1e9:,.1f} GB of disk; assumed, not measured"
    return Group(table, Text(total))
