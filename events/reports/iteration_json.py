"""Figures of an iteration as plain data for programs."""

from __future__ import annotations

from typing import Any

from events.facts.values import LEVELS
from events.projections.figures import IterationFigures


def iteration_json(figures: IterationFigures) -> dict[str, Any]:
    """The figures by name."""
    seats = {
        name: {
            "proposed": seat.proposed,
            "accepted": seat.accepted,
            "rejected": dict(seat.rejected),
            "pass_rate": seat.pass_rate.value,
            "aligned": seat.aligned.value,
            "similarity": seat.similarity.value,
            "diversity": seat.diversity,
            "parents": len(seat.parents),
            "reward": seat.reward.value,
            "votes": seat.votes.values(),
        }
        for name, seat in figures.seats.items()
    }
    levels = {level: figures.levels[level].values() for level in LEVELS if level in figures.levels}
    return {
        "iteration": figures.number,
        "began": figures.began.isoformat(),
        "ended": figures.ended.isoformat() if figures.ended else None,
        "episodes": figures.episodes,
        "finished": figures.finished,
        "failed": figures.failed,
        "endings": dict(figures.endings),
        "gap": figures.gap.value,
        "best_share": figures.best_share.value,
        "with_lemma": figures.with_lemma,
        "with_lift": figures.with_lift,
        "practice": figures.practice.value,
        "texts": figures.texts,
        "certain": figures.certain.value,
        "student_reward": figures.student_reward.value,
        "tokens": figures.tokens,
        "seconds": figures.seconds,
        "seats": seats,
        "levels": levels,
    }
