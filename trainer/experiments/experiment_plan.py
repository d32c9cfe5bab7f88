"""What an experiment is: recipes and seeds, and the settings of their runs, as a TOML file says it.

Law: a plan that can be read can be played: the settings of its runs are resolved while it is read. It plays nothing and
knows no log.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from events.facts.errors import BadInput
from events.facts.values import Value
from events.text.byte_order_mark import refuse_byte_order_mark
from graph.settings.config import Config
from graph.settings.configure import config_from, merged

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=60)]
"""Names a folder, a row or a curve."""
PER_RUN_SETTINGS: Final = ("recipe", "seed")
"""Settings that are not common to all runs."""


class Cell(NamedTuple):
    """One run of an experiment."""

    recipe: str
    """As the plan calls it."""
    seed: int
    run: str
    """Name of its folder."""


class ExperimentPlan(Value):
    """Recipes and seeds, each with each."""

    name: Name
    """Of the experiment, and of the folder with its runs."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Seed of each recipe's first run, of its second, and so on."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that all runs share, as in a run's own file."""
    recipes: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """By name, with what each sets otherwise; a name that is no recipe's sets `recipe`."""

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
            raise ValueError("no recipe has a seed of its own, since all are compared on the same; set seeds")
        return self

    def config(self, recipe: str, seed: int) -> Config:
        """All settings of a run.

        Raises:
            BadInput: unknown key, value out of range.
        """
        return config_from({"recipe": recipe, **merged(self.settings, self.recipes[recipe]), "seed": seed})

    def cells(self) -> Iterator[Cell]:
        """Every run, all recipes on one seed before any on the next, so that a broken off experiment compares them too."""
        return (Cell(recipe, seed, f"{recipe}-{seed}") for seed in self.seeds for recipe in self.recipes)


def read_plan(file: Path) -> ExperimentPlan:
    """The plan in a TOML file.

    Raises:
        BadInput: it cannot be read, or says something that no run takes.
    """
    try:
        refuse_byte_order_mark(file)
        plan = ExperimentPlan.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
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
    key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if not key:
        return f"{message}."
    if first["type"] == "extra_forbidden":
        names = ", ".join(ExperimentPlan.model_fields)
        return f"there is no {key!r} in a plan, which has {names}; settings of runs stand in [settings]."
    if first["type"] == "missing":
        return f"{key!r} is missing; docs/experiments.md shows a plan."
    return f"{key!r} cannot be {first['input']!r}: {message}; docs/experiments.md shows a plan."
