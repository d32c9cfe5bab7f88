"""Experiment plan: recipes, seeds and the settings of their runs, read from a TOML file.

Guarantees: the settings of all runs are resolved when the plan is read, so that a plan that can be read can be played.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from events.facts.errors import BadInput
from events.facts.values import Value
from events.text.byte_order_mark import refuse_byte_order_mark
from events.text.validation import first_problem
from graph.settings.config import Config
from graph.settings.configure import config_from, merged, settings_tree

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=60)]
"""A name that a folder may have."""
TableName = Literal[
    "pass-rates", "calibration", "labels", "labels-by-composition", "documents", "levels", "trials", "promotions"
]
"""A table of `trainer.experiments.seed_tables`."""
CellName = Annotated[tuple[str, ...], Field(min_length=2)]
"""A cell of a table: the names of its row, then that of its column."""
PER_RUN_SETTINGS: Final = ("recipe", "seed")
"""Settings that are not common to all runs."""


class Cell(NamedTuple):
    """One run of an experiment."""

    recipe: str
    """The recipe's name in the plan."""
    seed: int
    run: str
    """Name of its folder."""


class Prediction(Value):
    """What was written down before any run, as a comparison of a figure with another one or with a bound."""

    words: Annotated[str, Field(min_length=1)]
    """The words that were written down."""
    table: TableName
    """The table that the figures are in."""
    cell: CellName
    """The figure that the words are about."""
    above: CellName | float | None = None
    """What it should be above."""
    below: CellName | float | None = None
    """What it should be below."""

    @model_validator(mode="after")
    def _compares_with_one_thing(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("set either above or below")
        return self

    @property
    def other(self) -> CellName | float:
        """What it is compared with."""
        other = self.below if self.above is None else self.above
        assert other is not None
        return other


class ExperimentPlan(Value):
    """Every recipe on every seed."""

    name: Name
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Seeds, the same for each recipe."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that all runs share, as in a run's own file."""
    recipes: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """Recipes by name, with settings of their own; a name that is no recipe's has to set `recipe`."""

    document: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.md$")] | None = None
    """File in the report's folder that gets tables and plots between marks; None: the report is a page of its own."""
    sets: dict[Literal["validation", "test", "goalposts"], str] = Field(default_factory=dict)
    """What the report calls question sets."""
    predictions: tuple[Prediction, ...] = ()
    """What was written down before any run."""

    @field_validator("seeds")
    @classmethod
    def _are_different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is there twice")
        return seeds

    @model_validator(mode="after")
    def _sets_each_thing_once(self) -> Self:
        for key in PER_RUN_SETTINGS:
            if key in self.settings:
                raise ValueError(
                    f"settings.{key} is not for all runs; name recipes in [recipes.NAME] tables, and seeds in seeds"
                )
        if any("seed" in own for own in self.recipes.values()):
            raise ValueError("a recipe has no seed of its own, since all are compared on the same seeds; set seeds")
        return self

    def config(self, recipe: str, seed: int) -> Config:
        """All settings of a run.

        Raises:
            BadInput: unknown key, value out of range.
        """
        return config_from({"recipe": recipe, **merged(self.settings, self.recipes[recipe]), "seed": seed})

    def cells(self) -> Iterator[Cell]:
        """Every run, all recipes on one seed before any on the next, so that an interrupted experiment compares them too."""
        return (Cell(recipe, seed, f"{recipe}-{seed}") for seed in self.seeds for recipe in self.recipes)


def read_plan(file: Path, overrides: Sequence[str] = ()) -> ExperimentPlan:
    """The plan in a TOML file, with `key=value` overrides of the settings that all runs share.

    Raises:
        BadInput: it cannot be read, or has a setting that no run takes.
    """
    try:
        refuse_byte_order_mark(file)
        plan = ExperimentPlan.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        if overrides:
            shared = merged(plan.settings, settings_tree(overrides))
            plan = ExperimentPlan.model_validate(plan.model_dump() | {"settings": shared})
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"Plan {file} is not valid TOML: {error}; mend that line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Plan {file} cannot be read: {error}; give the path of a TOML file.") from error
    except ValidationError as error:
        raise BadInput(f"Plan {file}: {_sentence(error)}") from error
    for recipe in plan.recipes:
        try:
            plan.config(recipe, plan.seeds[0])
        except BadInput as error:
            raise BadInput(f"Plan {file}, recipe {recipe}: {error}") from error
    return plan


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key, message = first_problem(error)
    if not key:
        return f"{message}."
    if first["type"] == "extra_forbidden":
        names = ", ".join(ExperimentPlan.model_fields)
        return f"there is no {key!r} in a plan, which has {names}; settings of runs stand in [settings]."
    if first["type"] == "missing":
        return f"{key!r} is missing; docs/experiments.md shows a plan."
    return f"{key!r} cannot be {first['input']!r}: {message}; docs/experiments.md shows a plan."
