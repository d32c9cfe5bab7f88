"""Predictions of a plan beside what came: each as a clause that holds, does not hold or is open.

A prediction is open while a run that it is about is not over, and where the interval of the difference holds 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from events.facts.errors import BadInput
from events.projections.figures import RunningMean
from trainer.experiments.claims import Clause, percent, points
from trainer.experiments.experiment_plan import CellName, Prediction
from trainer.experiments.results import Results
from trainer.experiments.seed_tables import TABLES, SeedMeans, difference, estimate


def compared(predictions: Sequence[Prediction], results: Results) -> list[Clause]:
    """All predictions, in order.

    Raises:
        BadInput: a table of finished runs has no such cell.
    """
    return [_clause(prediction, results) for prediction in predictions]


def _clause(prediction: Prediction, results: Results) -> Clause:
    names = (*prediction.cell, *(() if isinstance(prediction.other, float) else prediction.other))
    over = results.complete(*(name for name in names if name in results.cells))
    ours = _means(prediction, prediction.cell, results, over=over)
    if isinstance(prediction.other, float):
        theirs: SeedMeans = {seed: RunningMean(prediction.other, 1) for seed in ours}
        against = percent(estimate({0: RunningMean(prediction.other, 1)}))
    else:
        theirs = _means(prediction, prediction.other, results, over=over)
        against = percent(estimate(theirs))
    distance, holds = difference(ours, theirs), None
    if over and distance is not None and (distance.low > 0 or distance.high < 0):
        holds = (distance.value > 0) == (prediction.above is not None)
    relation = "above" if prediction.above is not None else "below"
    other = against if isinstance(prediction.other, float) else _words(prediction.other)
    statement = f"“{prediction.words}” ({_words(prediction.cell)} is {relation} {other})"
    return Clause(statement, holds, f"{percent(estimate(ours))} against {against}: {points(distance)} points")


def _means(prediction: Prediction, cell: CellName, results: Results, *, over: bool) -> SeedMeans:
    cells = TABLES[prediction.table].cells(results)
    means = cells.get(cell[:-1], {}).get(cell[-1])
    if means is None and over:
        known = "; ".join(", ".join((*row, column)) for row, columns in cells.items() for column in columns)
        raise BadInput(
            f"A prediction names the cell {', '.join(cell)}, which the table {prediction.table} lacks; take one of these:"
            f" {known or 'none, the table is empty'}."
        )
    return means or {}


def _words(cell: CellName) -> str:
    return f"*{cell[-1]}* of {', '.join(cell[:-1])}"
