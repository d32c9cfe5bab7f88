"""Sections of a report in Markdown that pages and documents share: what was played, means over seeds, predictions, costs.

Guarantees: every number is computed from results; text that comes from logs is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from statistics import fmean

from events.facts.digests import NAME_DIGITS
from events.pure.estimators import CONFIDENCE
from events.text.phrases import MISSING, counted
from events.text.safe_text import one_line
from trainer.experiments.claims import percent, points
from trainer.experiments.experiment_plan import ExperimentPlan
from trainer.experiments.outcome import RunCosts, RunOutcome
from trainer.experiments.predictions import compared
from trainer.experiments.results import Results
from trainer.experiments.seed_tables import SeedMeans, SeedTable, estimate, rate


def report_command(name: str) -> str:
    """The command that makes the report of a plan."""
    return f"{play_command(name)} --report"


def play_command(name: str) -> str:
    """The command that plays a plan."""
    return f"python -m trainer.experiment configs/experiments/{name}.toml"


def plain(text: str) -> str:
    """Untrusted text on one line of Markdown, escaped."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&$-])", r"\\\1", one_line(text, 80))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def setting(results: Results) -> Iterator[str]:
    """What was played: recipes, seeds, code, first weights and question sets, and which runs are not over."""
    runs = results.runs
    if not runs:
        yield "No run has begun."
        return
    seeds = sorted({seed for row in results.cells.values() for seed in row})
    commits = sorted({run.started.commit[:NAME_DIGITS] for run in runs})
    weights = sorted({digest[:NAME_DIGITS] for run in runs for digest in run.started.policies.values()})
    yield (
        f"{counted(len(results.cells), 'recipe')}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))};"
        f" code of {', '.join(map(plain, commits))}; first weights {', '.join(map(plain, weights))}."
        f" {' '.join(_question_sets(runs))}"
    )
    missing = [f"`{recipe}` {seed}: {_state(run)}" for recipe, row in results.cells.items() for seed, run in row.items()]
    missing = [line for line in missing if not line.endswith(": over")]
    if missing:
        yield f"**Not complete.** Runs that are not over, by recipe and seed: {'; '.join(missing)}."


def _question_sets(runs: Sequence[RunOutcome]) -> Iterator[str]:
    for name in runs[0].evaluations:
        results = [evaluation.result for run in runs for evaluation in run.evaluations[name]]
        if results:
            how = sorted(
                {f"{counted(result.attempts, 'answer')} at temperature {result.sampling.temperature:g}" for result in results}
            )
            digest = plain(runs[0].started.inputs.get(name, "unknown")[:NAME_DIGITS])
            yield f"{name.capitalize()}: {len(results[0].successes)} questions (set {digest}), {' or '.join(how)}."


def _state(run: RunOutcome | None) -> str:
    if run is None:
        return "not begun"
    return "over" if run.finished else counted(run.costs.iterations, "iteration")


def seed_table(table: SeedTable, results: Results) -> Iterator[str]:
    """A table of means over seeds, with what its intervals are."""
    cells = table.cells(results)
    if not cells:
        yield "No run has anything for this table yet."
        return
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    yield markdown_table(
        (*table.heads, "seeds", *columns),
        (
            [*_names(key, results), str(_seeds(row)), *(_cell(table, column, row.get(column)) for column in columns)]
            for key, row in cells.items()
        ),
    )
    runs = max(_seeds(row) for row in cells.values())
    if runs > 1:
        how = "and Wilson's over the cases of one seed where shares do not; questions are not drawn anew"
        yield f"Means over seeds, with Student's {CONFIDENCE:.0%} interval where seeds differ, {how}."
    if table.rates:
        yield f"Of *{'*, *'.join(sorted(table.rates))}* the interval is Wilson's over all cases."


def _seeds(row: Mapping[str, SeedMeans]) -> int:
    return len({seed for means in row.values() for seed in means})


def _names(key: Sequence[str], results: Results) -> Iterator[str]:
    for name in key:
        yield f"`{name}`" if name in results.cells else plain(name)


def _cell(table: SeedTable, column: str, means: SeedMeans | None) -> str:
    if means is None:
        return MISSING
    if column in table.counts:
        return f"{sum(mean.total for mean in means.values()):.0f}"
    if column in table.rates:
        return percent(rate(means))
    return (points if column in table.differences else percent)(estimate(means))


def predictions(plan: ExperimentPlan, results: Results) -> Iterator[str]:
    """What was predicted beside what came."""
    clauses = compared(plan.predictions, results)
    yield markdown_table(
        ("written down before", "verdict", "what came"),
        ((clause.statement, f"**{clause.verdict}**", clause.numbers) for clause in clauses),
    )
    yield "A prediction is open while a run is not over, and where the interval of the difference, paired by seed, holds 0."


def costs(results: Results) -> Iterator[str]:
    """What each recipe cost, on average."""
    names = [field.name for field in fields(RunCosts)]
    rows = []
    for recipe in results.cells:
        runs = [outcome.costs for outcome in results.outcomes(recipe).values()]
        if runs:
            means = (fmean(getattr(cost, name) for cost in runs) for name in names)
            rows.append([f"`{recipe}`", *(f"{mean:,.0f}".replace(",", " ") for mean in means)])
    yield markdown_table(("recipe", *(name.replace("_", " ") for name in names)), rows)
    yield "Means over seeds."
