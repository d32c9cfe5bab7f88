"""Tables with means over seeds: pass rates, certainty, labels by vote, questions about documents, trials and promotions.

Guarantees: a table has rows only where runs have such facts, so that one list of tables serves every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from statistics import fmean
from typing import Final, get_args

from events.facts.certainty_facts import CalibrationFinished
from events.facts.trial_facts import TrialExamined
from events.facts.values import Level
from events.projections.figures import RunningMean, VoteFigures
from events.pure.estimators import seed_contributions, student_interval, wilson_interval
from trainer.experiments.documents import DocumentQuestion
from trainer.experiments.experiment_plan import TableName
from trainer.experiments.outcome import QUESTION_SETS, Evaluation, RunOutcome
from trainer.experiments.results import Estimate, Results
from trainer.experiments.votes import VotedQuestion

BEFORE: Final = "before"
"""Stands for the recipe in rows of the first weights."""
WINDOWS: Final = 5
"""Windows of iterations, of equal size, over which votes, trials and questions about documents are pooled."""
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
    rates: frozenset[str] = frozenset()
    """Columns that hold shares of independent cases, whose interval is Wilson's over the cases of all seeds."""

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

    Where all seeds are alike, which says little of a few cases, it is Wilson's interval over the cases of one seed, since seeds
    may have the same ones.
    """
    own = _estimate(list(_contributions(means).values()))
    return _over_cases(means) if own is not None and _is_narrow(own) else own


def rate(means: SeedMeans) -> Estimate | None:
    """The share of all seeds' cases with Wilson's interval, nan for a mean that is no share; None without a case."""
    cases = sum(mean.count for mean in means.values())
    if not cases:
        return None
    share = sum(mean.total for mean in means.values()) / cases
    return Estimate(share, *(wilson_interval(share, cases) if 0 <= share <= 1 else (nan, nan)))


def difference(these: SeedMeans, those: SeedMeans) -> Estimate | None:
    """The difference of two means on the seeds that have both, paired by seed; None if there are none.

    Where it is the same for all seeds, which says little of a few cases, its bounds are those of Wilson's intervals over
    the cases of one seed.
    """
    both = [seed for seed in these if these[seed].count and seed in those and those[seed].count]
    pairs = [{seed: means[seed] for seed in both} for means in (these, those)]
    ours, theirs = map(_contributions, pairs)
    paired = _estimate([ours[seed] - theirs[seed] for seed in both])
    this, that = map(_over_cases, pairs)
    if paired is None or this is None or that is None or not _is_narrow(paired):
        return paired
    return Estimate(paired.value, this.low - that.high, this.high - that.low)


def _over_cases(means: SeedMeans) -> Estimate | None:
    """As `rate`, with as many cases as one seed has at most; a bound, such as a prediction's, is a single case and exact."""
    share, cases = rate(means), max((mean.count for mean in means.values()), default=0)
    if share is None or cases == 1:
        return share and Estimate(share.value, share.value, share.value)
    return rate({0: RunningMean(share.value * cases, cases)})


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
        last = evaluations[-1] if evaluations and evaluations[-1] is not first else None
        for label, evaluation in ((BEFORE, first), (recipe, last)):
            if evaluation is not None:
                rates, before = ({} if each is None else _rates(each, results.k) for each in (evaluation, first))
                gains = {
                    f"{key} - {BEFORE}": _mean(fmean(rates[key]) - fmean(before[key])) for key in before if label != BEFORE
                }
                yield (results.set_name(name), label), {key: _mean(*scores) for key, scores in rates.items()} | gains


def _rates(evaluation: Evaluation, k: int) -> dict[str, list[float]]:
    return {f"pass@{each}": evaluation.scores(each) for each in sorted({1, k})}


def _calibration(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    first = {fact.result.name: fact.result for fact in outcome.calibrations if fact.result.iteration == 0}
    last = {fact.result.name: fact.result for fact in outcome.calibrations if fact.result.iteration > 0}
    for name in QUESTION_SETS:
        for label, facts in ((BEFORE, first), (recipe, last)):
            if name in facts:
                yield (results.set_name(name), label), _calibration_columns(facts[name])


def _calibration_columns(fact: CalibrationFinished) -> dict[str, RunningMean]:
    return {
        "accuracy": RunningMean(fact.accuracy * fact.answers, fact.answers),
        "AP": _mean(fact.ap_certainty),
        "AP, confidence alone": _mean(fact.ap_confidence),
        "answer rate": RunningMean(fact.answer_rate * fact.answers, fact.answers),
        "accuracy of these": _mean(fact.accuracy_answered),
        "ECE": _mean(fact.ece),
        "refused": RunningMean(fact.refused, fact.answers),
    }


def _labels(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for window in vote_windows(results):
        own = [vote for vote in outcome.votes if vote.iteration in window]
        if outcome.votes:
            yield (recipe, window_name(window)), _vote_columns(own)


def vote_windows(results: Results) -> list[range]:
    """Windows of the iterations in which answers voted."""
    return _windows(vote.iteration for run in results.runs for vote in run.votes)


def trial_windows(results: Results) -> list[range]:
    """Windows of the iterations in which sets were tried."""
    return _windows(trial.iteration for run in results.runs for trial in run.trials)


def _windows(iterations: Iterable[int]) -> list[range]:
    last = max(iterations, default=0)
    size = -(-last // WINDOWS) or 1
    return [range(start, min(start + size, last + 1)) for start in range(1, last + 1, size)]


def window_name(window: range) -> str:
    """`6 to 10`, or `6`."""
    return f"{window[0]} to {window[-1]}" if len(window) > 1 else str(window[0])


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


def _documents(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for level in (*get_args(Level), "all"):
        own = [question for question in outcome.documents if level in (question.level, "all")]
        if own:
            yield (recipe, level), _document_columns(own)


def _document_columns(questions: Sequence[DocumentQuestion]) -> dict[str, RunningMean]:
    both = [(known.informed.right, known.alone.right) for known in questions if known.informed and known.alone]
    right = [(informed, alone) for informed, alone in both if informed is not None and alone is not None]
    return {
        "questions": RunningMean(len(questions), 1),
        "right, with the document": _mean(*(informed for informed, _ in right)),
        "right, without it": _mean(*(alone for _, alone in right)),
        "with - without": _mean(*(informed - alone for informed, alone in right)),
        "matching": _mean(*(question.matching for question in questions)),
    }


def _levels(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for window in _windows(question.iteration for run in results.runs for question in run.documents):
        own = [question for question in outcome.documents if question.iteration in window]
        if own:
            yield (recipe, window_name(window)), _level_columns(own)


def _level_columns(questions: Sequence[DocumentQuestion]) -> dict[str, RunningMean]:
    levels = get_args(Level)
    matching = {level: [each.matching for each in questions if each.level == level] for level in levels}
    known = [(levels.index(each.level), each.matching) for each in questions if each.matching is not None]
    pairs = [sorted(pair) for pair in combinations(known, 2) if pair[0][0] != pair[1][0]]
    in_order = [0.5 + 0.5 * ((easier > harder) - (easier < harder)) for (_, easier), (_, harder) in pairs]
    columns = {f"matching, {level}": _mean(*values) for level, values in matching.items()}
    return {"questions": RunningMean(len(questions), 1), **columns, "in order": _mean(*in_order)}


def _trials(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    for window in trial_windows(results):
        own = [trial for trial in outcome.trials if trial.iteration in window]
        if own:
            promoted = sum(promotion.iteration in window for promotion in outcome.promotions)
            yield (recipe, window_name(window)), {**_trial_columns(own), "promotions": RunningMean(promoted, 1)}


def _trial_columns(trials: Sequence[TrialExamined]) -> dict[str, RunningMean]:
    questions = sum(trial.questions for trial in trials)
    return {
        "trials": RunningMean(len(trials), 1),
        "passed before": RunningMean(sum(trial.before for trial in trials), questions),
        "passed after": RunningMean(sum(trial.after for trial in trials), questions),
        "gain": _mean(*(trial.gain for trial in trials)),
    }


def _promotions(results: Results, recipe: str, outcome: RunOutcome) -> RunRows:
    iterations = {trial.iteration for trial in outcome.trials if trial.iteration <= outcome.costs.iterations}
    if iterations:
        promoted = {promotion.iteration for promotion in outcome.promotions}
        yield (
            (recipe,),
            {
                "iterations": RunningMean(len(iterations), 1),
                "promotions": RunningMean(len(promoted), 1),
                "promoted": _mean(*(iteration in promoted for iteration in iterations)),
                **_trial_columns(outcome.trials),
                "trials that gained": _mean(*(trial.gain > 0 for trial in outcome.trials)),
                "trials that lost": _mean(*(trial.gain < 0 for trial in outcome.trials)),
            },
        )


TABLES: Final[Mapping[TableName, SeedTable]] = {
    "pass-rates": SeedTable(
        ("questions", "recipe"), _pass_rates, differences=frozenset(f"pass@{k} - {BEFORE}" for k in range(1, 21))
    ),
    "calibration": SeedTable(("questions", "recipe"), _calibration),
    "labels": SeedTable(("recipe", "iterations"), _labels, counts=frozenset({"votes"})),
    "labels-by-composition": SeedTable(("recipe", "operations"), _labels_by_composition, counts=frozenset({"labels"})),
    "documents": SeedTable(
        ("recipe", "level"), _documents, counts=frozenset({"questions"}), differences=frozenset({"with - without"})
    ),
    "levels": SeedTable(("recipe", "iterations"), _levels, counts=frozenset({"questions"})),
    "trials": SeedTable(
        ("recipe", "iterations"), _trials, counts=frozenset({"trials", "promotions"}), differences=frozenset({"gain"})
    ),
    "promotions": SeedTable(
        ("recipe",),
        _promotions,
        counts=frozenset({"iterations", "promotions", "trials"}),
        differences=frozenset({"gain"}),
        rates=frozenset({"promoted", "trials that gained", "trials that lost"}),
    ),
}
"""Tables by name."""
assert tuple(TABLES) == get_args(TableName)
