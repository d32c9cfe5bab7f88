"""Tables with means over seeds: pass rates by question set, certainty, and labels by vote over time and by composition.

Guarantees: a table has rows only where runs have such facts, so that one list of tables serves every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean
from typing import Final, get_args

from events.facts.certainty_facts import CalibrationFinished
from events.projections.figures import RunningMean, VoteFigures
from events.pure.estimators import seed_contributions, student_interval, wilson_interval
from trainer.experiments.experiment_plan import TableName
from trainer.experiments.outcome import QUESTION_SETS, RunOutcome
from trainer.experiments.results import Estimate, Results
from trainer.experiments.votes import VotedQuestion

BEFORE: Final = "before"
"""Stands for the recipe in rows of the first weights."""
WINDOWS: Final = 5
"""Windows of iterations, of equal size, over which votes are pooled."""
MOST_RARE: Final = 3
"""Labels of questions with more rare operations are counted with those that have so many."""

_ALIKE: Final = 1e-9
"""Intervals that are narrower have no width but rounding's."""

RowKey = tuple[str, ...]
SeedMeans = Mapping[int, RunningMean]
"""Means by seed."""
Cells = Mapping[RowKey, Mapping[str, SeedMeans]]
"""Means by row and column."""
RunRows = Iterator[tuple[RowKey, Mapping[str, RunningMean]]]
"""What a run adds to a table: means by column, by row."""


@dataclass(frozen=True)
class SeedTable:
    """A table: what is in it and how it reads."""

    heads: RowKey
    """Titles of the columns that name a row."""
    rows: Callable[[Results, str, RunOutcome], RunRows]
    """What a recipe's run adds."""
    counts: frozenset[str] = frozenset()
    """Columns that hold totals over seeds."""
    differences: frozenset[str] = frozenset()
    """Columns that may be negative."""

    def cells(self, results: Results) -> Cells:
        """Everything in the table, rows with an equal first name together."""
        table: dict[RowKey, dict[str, dict[int, RunningMean]]] = {}
        for recipe in results.cells:
            for seed, outcome in results.outcomes(recipe).items():
                for key, means in self.rows(results, recipe, outcome):
                    row = table.setdefault(key, {})
                    for column, mean in means.items():
                        row.setdefault(column, {})[seed] = mean
        groups = list(dict.fromkeys(key[0] for key in table))
        return dict(sorted(table.items(), key=lambda row: groups.index(row[0][0])))


def estimate(means: SeedMeans) -> Estimate | None:
    """The pooled mean with its interval over seeds, whose bounds are nan for a single value; None without a case.

    Where all seeds are alike, which says little of a few cases, it is Wilson's interval over cases.
    """
    own, cases = _estimate(list(_contributions(means).values())), sum(mean.count for mean in means.values())
    if own is not None and _is_narrow(own) and cases > len(means):
        return Estimate(own.value, *wilson_interval(own.value, cases))
    return own


def difference(these: SeedMeans, those: SeedMeans) -> Estimate | None:
    """The difference of two means on the seeds that have both, paired by seed; None if there are none."""
    both = [seed for seed in these if these[seed].count and seed in those and those[seed].count]
    ours, theirs = (_contributions({seed: means[seed] for seed in both}) for means in (these, those))
    if any((own := _estimate(list(each.values()))) is None or not _is_narrow(own) for each in (ours, theirs)):
        return _estimate([ours[seed] - theirs[seed] for seed in both])
    this, that = (estimate({seed: means[seed] for seed in both}) for means in (these, those))
    return this and that and Estimate(this.value - that.value, this.low - that.high, this.high - that.low)


def _is_narrow(figure: Estimate) -> bool:
    return figure.high - figure.low < _ALIKE


def _contributions(means: SeedMeans) -> dict[int, float]:
    known = {seed: mean for seed, mean in means.items() if mean.count}
    if not known:
        return {}
    values = seed_contributions([mean.total for mean in known.values()], [mean.count for mean in known.values()])
    return dict(zip(known, values, strict=True))


def _estimate(values: Sequence[float]) -> Estimate | None:
    return Estimate(fmean(values), *(student_interval(values) or (nan, nan))) if values else None


def _mean(*values: float | None) -> RunningMean:
    mean = RunningMean()
    for value in values:
        if value is not None:
            mean.add(value)
    return mean


def _pass_rates(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for name, evaluations in outcome.evaluations.items():
        first = outcome.at(name, 0)
        for label, evaluation in ((BEFORE, first), (recipe, evaluations[-1] if evaluations else None)):
            if evaluation is not None:
                rates = {f"pass@{k}": fmean(evaluation.scores(k)) for k in sorted({1, results.k})}
                before = {} if first is None else {f"pass@{k}": fmean(first.scores(k)) for k in sorted({1, results.k})}
                gains = {f"{key} - {BEFORE}": _mean(rates[key] - before[key]) for key in before if label != BEFORE}
                yield (results.set_name(name), label), {key: _mean(rate) for key, rate in rates.items()} | gains


def _calibration(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    last = {fact.result.name: fact.result for fact in outcome.calibrations}
    first = {fact.result.name: fact.result for fact in outcome.calibrations if fact.result.iteration == 0}
    for name in (name for name in QUESTION_SETS if name in last):
        for label, facts in ((BEFORE, first), (recipe, last)):
            if name in facts:
                yield (results.set_name(name), label), _calibration_columns(facts[name])


def _calibration_columns(fact: CalibrationFinished) -> dict[str, RunningMean]:
    return {
        "accuracy": _mean(fact.accuracy),
        "AP": _mean(fact.ap_certainty),
        "AP, confidence alone": _mean(fact.ap_confidence),
        "answer rate": _mean(fact.answer_rate),
        "accuracy of these": _mean(fact.accuracy_answered),
        "ECE": _mean(fact.ece),
        "refused": _mean(fact.refused / fact.answers),
    }


def _labels(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for window in windows(results):
        own = [vote for vote in outcome.votes if vote.iteration in window]
        if outcome.votes:
            yield (recipe, window_name(window)), _vote_columns(own)


def windows(results: Results) -> list[range]:
    """Windows of the iterations in which answers voted."""
    runs = [outcome for recipe in results.cells for outcome in results.outcomes(recipe).values()]
    last = max((vote.iteration for run in runs for vote in run.votes), default=0)
    size = -(-last // WINDOWS) or 1
    return [range(start, min(start + size, last + 1)) for start in range(1, last + 1, size)]


def window_name(window: range) -> str:
    """`6 to 10`."""
    return f"{window[0]} to {window[-1]}"


def _vote_columns(votes: Sequence[VotedQuestion]) -> dict[str, RunningMean]:
    figures, agrees = VoteFigures(), _mean(*(vote.result.agrees for vote in votes))
    for vote in votes:
        figures.apply(vote.result)
    return {
        "votes": RunningMean(len(votes), 1),
        "agreement": figures.agreement,
        "ties": figures.tied,
        "labelled": figures.labelled,
        "labels that are right": figures.right,
        "labels that are the program's": agrees,
    }


def _labels_by_composition(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for region in ("rest", "target"):
        own = [vote for vote in outcome.votes if vote.composition and vote.composition.region == region]
        by_rare = {number: _mean() for number in range(MOST_RARE + 1)}
        for vote in own:
            if vote.composition and vote.result.right is not None:
                by_rare[min(vote.composition.rare, MOST_RARE)].add(vote.result.right)
        if outcome.votes:
            rare = {f"right, {number}{' or more' * (number == MOST_RARE)} rare": mean for number, mean in by_rare.items()}
            right = RunningMean(sum(mean.total for mean in by_rare.values()), sum(mean.count for mean in by_rare.values()))
            yield (recipe, f"{region} region"), {"labels": RunningMean(right.count, 1), "right": right, **rare}


TABLES: Final[Mapping[TableName, SeedTable]] = {
    "pass-rates": SeedTable(
        ("questions", "recipe"), _pass_rates, differences=frozenset(f"pass@{k} - {BEFORE}" for k in range(1, 21))
    ),
    "calibration": SeedTable(("questions", "recipe"), _calibration),
    "labels": SeedTable(("recipe", "iterations"), _labels, counts=frozenset({"votes"})),
    "labels-by-composition": SeedTable(("recipe", "operations"), _labels_by_composition, counts=frozenset({"labels"})),
}
"""Tables by name."""
assert tuple(TABLES) == get_args(TableName)
