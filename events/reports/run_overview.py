"""The summary of a run as tables and sentences for people, and as plain data for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table

from events.facts.digests import SHORT
from events.facts.types import EvaluationFinished, PolicyUpdated
from events.facts.values import LEVELS, QuestionId, Seat
from events.process.activity import format_duration
from events.projections.figures import SeatFigures
from events.projections.players import PlayerFigures
from events.projections.run_summary import RunSummary
from events.reports.iteration_json import iteration_json
from events.reports.training_warnings import diagnose
from events.text.phrases import MISSING, count_text, counted, number, share
from events.text.safe_text import markup

_LEFT = {"seat", "level", "rejected", "set", "goalpost", "source", "solved", "player", "plays"}
_LEFT |= {"policy", "first weights", "last weights"}
"""Columns that are aligned to the left."""
_BROKEN = {"rejected", "source", "pass@k"}
"""Columns whose cells may be broken where a window is narrow; ids are not, because people copy them."""
ROWS = 12
"""Rows of a table that are shown by default."""
T = TypeVar("T")


def overview_json(summary: RunSummary) -> dict[str, Any]:
    """The summary as plain data."""
    return {
        "position": summary.position,
        "finished": summary.finished,
        "resumed": summary.resumed,
        "lemmas": summary.lemmas,
        "lifts": summary.lifts,
        "tokens": summary.tokens,
        "policies": summary.policies,
        "served": {role: fact.model_dump(mode="json") for role, fact in summary.served.items()},
        "iterations": [iteration_json(figures) for figures in summary.iterations.values()],
        "updates": [update.model_dump(mode="json") for update in summary.updates],
        "warnings": [warning._asdict() for warning in diagnose(summary)],
        "evaluations": [evaluation.model_dump(mode="json") for evaluation in summary.evaluations],
        "calibrations": [calibration.model_dump(mode="json") for calibration in summary.calibrations],
        "trials": [trial.model_dump(mode="json") for trial in summary.trials],
        "promotions": [promotion.model_dump(mode="json") for promotion in summary.promotions],
        "players": [_player_json(player) for player in summary.players.figures.values()],
        "goalposts": {question: asdict(figures) for question, figures in summary.goalposts.items()},
    }


def _player_json(player: PlayerFigures) -> dict[str, Any]:
    times = {"since": player.since.isoformat(), "latest": player.latest.isoformat()}
    return asdict(player) | times | {"speed": player.speed}


def overview(summary: RunSummary, name: str = "", *, whole: bool = False) -> RenderableType:
    """The run in sentences and tables, every row of them if `whole`; it is called by the name in its settings by default."""
    parts: list[RenderableType] = [*_sentences(summary, name)]
    parts += [f"[yellow]warning[/]: {markup(str(warning))}" for warning in diagnose(summary)]
    tables = (
        _iterations(summary, whole),
        _teacher(summary) if whole else _seats(summary),
        _votes(summary, whole),
        _levels(summary, whole),
        _learning(summary) if whole else _policies(summary),
        _evaluations(summary, whole),
        _calibrations(summary),
        _trials(summary, whole),
        _goalposts(summary, whole),
        _players(summary),
    )
    parts += [part for table in tables if table.row_count for part in ("", table)]
    weights = list(_weights_in_play(summary))
    return Group(*parts, *(["", *weights] if weights else []))


def solved_goalposts(summary: RunSummary) -> set[QuestionId]:
    """Goalposts to which an answer passed, in an episode or in an evaluation."""
    passed = {question for evaluation in summary.evaluations for question, count in evaluation.successes.items() if count}
    return {question for question, figures in summary.goalposts.items() if figures.best_share >= 1 or question in passed}


def nearest_goalposts(summary: RunSummary) -> list[QuestionId]:
    """Goalposts, those first that were answered best: in the last evaluation, then in the last episode, then ever."""
    solved, evaluated = solved_goalposts(summary), _evaluated(summary)

    def distance(question: QuestionId) -> tuple[float, float, bool, float]:
        figures, (passed, attempts) = summary.goalposts[question], evaluated.get(question, (0, 1))
        gap = 1.0 if figures.last_gap is None else figures.last_gap
        return (-passed / attempts, gap, question not in solved, -figures.best_share)

    return sorted(summary.goalposts, key=distance)


def _evaluated(summary: RunSummary) -> dict[QuestionId, tuple[int, int]]:
    """Answers that passed in the last evaluation of each question, and how many there were."""
    facts = summary.evaluations
    return {question: (passed, fact.attempts) for fact in facts for question, passed in fact.successes.items()}


def _sentences(summary: RunSummary, name: str) -> Iterator[str]:
    config = summary.started.config if summary.started else {}
    name = markup(name or str(config.get("name", "run")), 64)
    setup = " on ".join(markup(str(config[key]), 64) for key in ("recipe", "model") if config.get(key))
    state = "finished" if summary.finished else "not finished"
    minutes, seconds = divmod(round(summary.played), 60)
    yield (
        f"[bold]{name}[/]: {f'{setup}, ' if setup else ''}{state}, "
        f"{counted(len(summary.iterations), 'iteration')} in {minutes}:{seconds:02}, {summary.position} events, "
        f"{summary.tokens} tokens"
    )
    if summary.started and (file := summary.started.dequantised):
        types = markup(", ".join(file.types), 64)
        yield f"Its first weights were dequantised from {markup(file.name, 64)} ({types}; SHA-256 {file.digest[:SHORT]}…)."
    if summary.goalposts:
        tried = sum(figures.measured > 0 for figures in summary.goalposts.values())
        total = counted(len(summary.goalposts), "goalpost")
        yield f"An answer passed for {len(solved_goalposts(summary))} of {total}; episodes tried {tried} of them."
    proposed = sum(seat.proposed for figures in summary.iterations.values() for seat in figures.seats.values())
    if proposed:
        rejected: Counter[str] = Counter()
        for figures in summary.iterations.values():
            for seat in figures.seats.values():
                rejected.update(seat.rejected)
        kinds = {"lemma": summary.lemmas, "lift": summary.lifts, "open question": summary.open_questions}
        listed = ", ".join(counted(count, kind) for kind, count in kinds.items() if count)
        accepted = f"{sum(kinds.values())} were accepted{f' ({listed})' if listed else ''}"
        yield (f"Of {counted(proposed, 'proposal')} of the teacher {accepted}; rejected: {count_text(rejected) or 'none'}.")
    if summary.seconds:
        whole = sum(summary.seconds.values())
        spent = sorted(summary.seconds.items(), key=lambda pair: -pair[1])
        shares = ", ".join(f"{markup(phase, 16)} {seconds / whole:.1%}" for phase, seconds in spent if seconds)
        yield f"Time of finished iterations, {format_duration(whole)}: {shares}."
    if texts := sum(figures.texts for figures in summary.iterations.values()):
        marked = sum(figures.certain.count for figures in summary.iterations.values())
        certain = sum(figures.certain.total for figures in summary.iterations.values())
        how = f", {certain:.0f} of {marked} of them certain" if marked else ""
        yield f"{counted(texts, 'text')} {'was' if texts == 1 else 'were'} given to learn{how}."


def _weights_in_play(summary: RunSummary) -> Iterator[str]:
    for role, fact in summary.served.items():
        largest, mean = fact.difference, fact.mean_difference
        check = "" if largest is None else f", whose logprobs are the trainer's within {largest:.1e} nats (mean {mean:.1e})"
        yield f"{role} plays with {fact.policy[:SHORT]}{check}"


def _table(title: str, *columns: str, shown: int = 0, total: int = 0) -> Table:
    full = f"{title}, {shown} of {total} (--all shows all)" if shown < total else title
    table = Table(title=full, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=column not in _BROKEN)
    return table


def _thinned(items: Sequence[T], whole: bool) -> list[T]:
    """All, or `ROWS` at equal distances, the first and the last among them."""
    if whole or len(items) <= ROWS:
        return list(items)
    return [items[round(row * (len(items) - 1) / (ROWS - 1))] for row in range(ROWS)]


def _iterations(summary: RunSummary, whole: bool) -> Table:
    columns = ("#", "episodes", "gap", "best", "practice", "reward", "lemmas", "lifts", "tokens", "seconds")
    shown = _thinned(list(summary.iterations.values()), whole)
    table = _table("Iterations", *columns, shown=len(shown), total=len(summary.iterations))
    for figures in shown:
        ended = figures.ended or summary.latest or figures.began
        table.add_row(
            str(figures.number),
            f"{figures.finished}/{figures.episodes}",
            number(figures.gap.value),
            share(figures.best_share.value),
            number(figures.practice.value),
            number(figures.student_reward.value),
            str(figures.seats["easy"].accepted),
            str(figures.seats["hard"].accepted),
            str(figures.tokens),
            f"{(ended - figures.began).total_seconds():.0f}",
        )
    return table


_SEAT = ("made", "kept", "rate", "aligned", "similar", "parents", "reward", "rejected")


def _teacher(summary: RunSummary) -> Table:
    table = _table("Teacher", "#", "seat", *_SEAT)
    for figures in summary.iterations.values():
        for name, seat in figures.seats.items():
            if seat.proposed:
                table.add_row(str(figures.number), name, *_seat(seat))
    return table


def _seats(summary: RunSummary) -> Table:
    """The teacher's seats, all iterations together."""
    table = _table("Teacher", "seat", *_SEAT)
    totals: dict[Seat, SeatFigures] = {}
    for figures in summary.iterations.values():
        for name, seat in figures.seats.items():
            totals.setdefault(name, SeatFigures()).add(seat)
    for name, seat in totals.items():
        if seat.proposed:
            table.add_row(name, *_seat(seat))
    return table


def _players(summary: RunSummary) -> Table:
    """Who played, what, and how fast; empty where one process plays."""
    table = _table("Players", "player", "plays", "for", "silent", "episodes", "tokens", "tokens/s")
    for player in summary.players.figures.values():
        latest = summary.latest or player.latest
        table.add_row(
            markup(player.name, 64),
            markup(player.share, 64),
            format_duration((player.latest - player.since).total_seconds()),
            format_duration((latest - player.latest).total_seconds()),
            str(player.episodes),
            str(player.tokens),
            "" if player.speed is None else f"{player.speed:.0f}",
        )
    return table


def _seat(seat: SeatFigures) -> tuple[str, ...]:
    return (
        str(seat.proposed),
        str(seat.accepted),
        number(seat.pass_rate.value),
        number(seat.aligned.value),
        number(seat.similarity.value),
        str(len(seat.parents)),
        number(seat.reward.value),
        count_text(seat.rejected),
    )


def _votes(summary: RunSummary, whole: bool) -> Table:
    """What the labels of voted questions are worth, by iteration."""
    voted = [
        (str(figures.number), name, seat.votes)
        for figures in summary.iterations.values()
        for name, seat in figures.seats.items()
        if seat.votes.agreement.count
    ]
    shown = _thinned(voted, whole)
    columns = ("#", "seat", "votes", "agreement", "ties", "labelled", "right")
    table = _table("Labels by vote", *columns, shown=len(shown), total=len(voted))
    for iteration, seat, votes in shown:
        table.add_row(iteration, seat, str(votes.agreement.count), *map(number, votes.values().values()))
    return table


def _levels(summary: RunSummary, whole: bool) -> Table:
    """Questions about documents, by iteration and level; docs/documents.md says what the columns mean."""
    drawn = [
        (str(figures.number), level, figures.levels[level].values())
        for figures in summary.iterations.values()
        for level in LEVELS
        if level in figures.levels
    ]
    shown = _thinned(drawn, whole)
    columns = ("#", "level", "episodes", "accepted", "matching", "reward", "agreement", "labelled", "right", "right alone")
    table = _table("Documents", *columns, shown=len(shown), total=len(drawn))
    for iteration, level, (episodes, accepted, *means) in ((*row[:2], row[2].values()) for row in shown):
        table.add_row(iteration, level, str(episodes), str(accepted), *map(number, means))
    return table


def _learning(summary: RunSummary) -> Table:
    table = _table("Learning", "#", "policy", "digest", "step", "groups", "silent", "samples", "tokens", "reward")
    for update in summary.updates:
        steps = update.steps
        table.add_row(
            str(update.iteration),
            markup(update.policy, 16),
            update.digest[:SHORT],
            str(update.step),
            str(sum(step.groups for step in steps)),
            str(sum(step.silent_groups for step in steps)),
            str(sum(step.samples for step in steps)),
            str(sum(step.tokens for step in steps)),
            number(mean_reward(update)),
        )
    return table


def _policies(summary: RunSummary) -> Table:
    """Each policy from its first weights to its last."""
    table = _table("Policies", "policy", "updates", "steps", "first weights", "last weights", "first reward", "last reward")
    updates: dict[str, list[PolicyUpdated]] = {}
    for update in summary.updates:
        updates.setdefault(update.policy, []).append(update)
    for policy, own in updates.items():
        weights = own[0].parent[:SHORT], own[-1].digest[:SHORT]
        rewards = number(mean_reward(own[0])), number(mean_reward(own[-1]))
        table.add_row(markup(policy, 16), str(len(own)), str(own[-1].step), *weights, *rewards)
    return table


def mean_reward(update: PolicyUpdated) -> float | None:
    """Mean reward of the groups of all steps; None without groups."""
    groups = sum(step.groups for step in update.steps)
    return sum(step.reward * step.groups for step in update.steps) / groups if groups else None


def _evaluations(summary: RunSummary, whole: bool) -> Table:
    """Every evaluation, or the first and the last on each set."""
    by_set: dict[str, list[EvaluationFinished]] = {}
    for evaluation in summary.evaluations:
        by_set.setdefault(evaluation.name, []).append(evaluation)
    ends = [evaluation for own in by_set.values() for evaluation in (own if len(own) < 2 else [own[0], own[-1]])]
    shown = summary.evaluations if whole else ends
    columns = ("set", "after", "policy", "questions", "solved", "pass@k")
    table = _table("Evaluations", *columns, shown=len(shown), total=len(summary.evaluations))
    for evaluation in shown:
        solved = sum(count > 0 for count in evaluation.successes.values())
        shares = ", ".join(f"@{k} {share:.3f}" for k, share in sorted(evaluation.pass_at.items()))
        cells = str(evaluation.iteration), evaluation.policy[:SHORT], str(len(evaluation.successes)), str(solved), shares
        table.add_row(markup(evaluation.name, 20), *cells)
    return table


def _calibrations(summary: RunSummary) -> Table:
    """How well the policy knows what it knows; docs/certainty.md says what the columns mean."""
    columns = ("set", "after", "policy", "answers", "accuracy", "refused", "answered", "right", "AP", "AP confidence", "ECE")
    table = _table("Certainty", *columns)
    for fact in summary.calibrations:
        shares = number(fact.accuracy, 3), number(fact.refused / fact.answers, 3), number(fact.answer_rate, 3)
        scores = number(fact.accuracy_answered, 3), number(fact.ap_certainty, 3), number(fact.ap_confidence, 3)
        cells = str(fact.iteration), fact.policy[:SHORT], str(fact.answers), *shares, *scores, number(fact.ece, 3)
        table.add_row(markup(fact.name, 20), *cells)
    return table


def _trials(summary: RunSummary, whole: bool) -> Table:
    """What training on each set gained a student."""
    shown = _thinned(summary.trials, whole)
    columns = ("#", "set", "student", "before", "after", "of", "gain", "policy", "promoted")
    table = _table("Trials", *columns, shown=len(shown), total=len(summary.trials))
    for fact in shown:
        counts = (str(count) for count in (fact.iteration, fact.set, fact.student, fact.before, fact.after, fact.questions))
        promoted = (fact.iteration, fact.set, fact.student) in summary.promoted
        table.add_row(*counts, f"{fact.gain:+.3f}", fact.policy[:SHORT], "yes" if promoted else "")
    return table


def _goalposts(summary: RunSummary, whole: bool) -> Table:
    order, solved, evaluated = nearest_goalposts(summary), solved_goalposts(summary), _evaluated(summary)
    shown = order if whole else order[:ROWS]
    columns = ("goalpost", "source", "solved", "evaluated", "episodes", "first gap", "last gap", "best")
    table = _table("Goalposts, the nearest first", *columns, shown=len(shown), total=len(order))
    for question in shown:
        figures = summary.goalposts[question]
        passed = "{}/{}".format(*evaluated[question]) if question in evaluated else MISSING
        best = share(figures.best_share if figures.measured else None)
        gaps = number(figures.first_gap), number(figures.last_gap), best
        claims = "yes" if question in solved else "no", passed, str(figures.measured)
        table.add_row(question[:SHORT], markup(figures.source, 32), *claims, *gaps)
    return table
