"""The claim, clause by clause: guided self-play beats unguided self-play, and solves goalposts that nothing else solves.

A clause about runs that are not over is open, whatever their results so far. The bounds are those of GASP (arXiv 2603.15957,
tables 2 and 4): 2.5 points of pass@20 over AZR, 11 of 146 goalposts. The paper does not define "near zero"; its rivals solve
nothing by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Final, Literal, NamedTuple

from events.text.phrases import MISSING
from trainer.experiments.results import Estimate, Results, WhichCheckpoint

MIN_MARGIN: Final = 0.025
"""Least difference in pass@k, in [0, 1]."""
MIN_SOLVED_SHARE: Final = 11 / 146
"""Share of goalposts that must be exceeded, in [0, 1]."""
MAX_RIVAL_SHARE: Final = 0.02
"""Share of goalposts up to which a rival counts as near zero, in [0, 1]."""
GUIDED: Final = "gasp"
UNGUIDED: Final = "azr"
RIVALS: Final = ("base", "azr", "rlvr")
"""Recipes that solve nothing in the paper."""


class Clause(NamedTuple):
    """A part of the claim."""

    statement: str
    holds: bool | None
    """None: open, because runs are missing or do not decide it."""
    numbers: str

    @property
    def verdict(self) -> str:
        """`holds` in words."""
        return {True: "HOLDS", False: "DOES NOT HOLD", None: "OPEN"}[self.holds]


def percent(figure: Estimate | None) -> str:
    """`33.7 % (31.0 to 36.2)`, an interval being cut to 0 to 100; `33.7 %` where there is none or its bounds read the same."""
    if figure is None:
        return MISSING
    low, high = f"{100 * max(0.0, figure.low):.1f}", f"{100 * min(1.0, figure.high):.1f}"
    return f"{100 * figure.value:.1f} %" + ("" if isnan(figure.low) or low == high else f" ({low} to {high})")


def points(figure: Estimate | None) -> str:
    """`+2.5 (-0.3 to +5.1)`; `+2.5` without an interval."""
    if figure is None:
        return MISSING
    return f"{100 * figure.value:+.1f}" + (
        "" if isnan(figure.low) else f" ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"
    )


def clauses(results: Results) -> list[Clause]:
    """All clauses, in order."""
    return [
        *_better(results, "chosen", "the checkpoint chosen on validation"),
        *_better(results, "last", "the last checkpoint"),
        _solves(results, "any", "at any evaluated checkpoint"),
        _solves(results, "last", "at the last checkpoint"),
        *(_near_zero(results, rival) for rival in RIVALS),
        _solves_alone(results),
    ]


def _better(results: Results, when: WhichCheckpoint, checkpoint: str) -> Iterator[Clause]:
    done, k = results.complete(GUIDED, UNGUIDED), results.k
    ours, theirs = results.score(GUIDED, when, k), results.score(UNGUIDED, when, k)
    difference = results.difference(GUIDED, UNGUIDED, when, k)
    complete = done and ours is not None and theirs is not None and difference is not None
    numbers = f"{percent(ours)} against {percent(theirs)}"
    yield Clause(
        f"`{GUIDED}` is above `{UNGUIDED}` in test pass@{k} by more than {100 * MIN_MARGIN:.1f} points, at {checkpoint}",
        difference.value > MIN_MARGIN if complete and difference else None,
        f"{numbers}: {points(difference)} points",
    )
    yield Clause("... and their intervals are apart", ours.low > theirs.high if complete and ours and theirs else None, numbers)
    yield Clause(
        "... and the interval of their paired difference is above 0",
        difference.low > 0 if complete and difference else None,
        f"{points(difference)} points",
    )


def _solves(results: Results, when: Literal["last", "any"], checkpoint: str) -> Clause:
    share = results.union_share(GUIDED, when)
    return Clause(
        f"the seeds of `{GUIDED}` together solve more than {100 * MIN_SOLVED_SHARE:.1f} % of the goalposts, {checkpoint}",
        share.value > MIN_SOLVED_SHARE if share is not None and results.complete(GUIDED) else None,
        _solved_counts(results, GUIDED, when),
    )


def _near_zero(results: Results, rival: str) -> Clause:
    share = results.union_share(rival, "any")
    attempts, needed = results.attempts(rival), results.attempts(GUIDED)
    holds = None
    if share is not None and results.complete(GUIDED, rival):
        # Too few attempts cannot show that nothing is solved, but they can show that something is.
        holds = False if share.value > MAX_RIVAL_SHARE else True if attempts >= needed else None
    return Clause(
        f"the seeds of `{rival}` together solve at most {100 * MAX_RIVAL_SHARE:.0f} % of the goalposts under equal samples",
        holds,
        f"{_solved_counts(results, rival, 'any')}, in {attempts} answers to each; `{GUIDED}` has {needed}",
    )


def _solves_alone(results: Results) -> Clause:
    theirs = frozenset().union(*(results.union(rival, "any") for rival in RIVALS))
    own = results.union(GUIDED, "any") - theirs
    return Clause(
        f"`{GUIDED}` solves goalposts that none of {', '.join(f'`{rival}`' for rival in RIVALS)} solves at any checkpoint",
        bool(own) if results.complete(GUIDED, *RIVALS) else None,
        f"{len(own)} of the {len(results.union(GUIDED, 'any'))} that it solves; the three solve {len(theirs)} together",
    )


def _solved_counts(results: Results, recipe: str, when: Literal["last", "any"]) -> str:
    count = len(results.questions.get("goalposts", ()))
    return f"{len(results.union(recipe, when))} of {count} goalposts, {percent(results.union_share(recipe, when))}"
