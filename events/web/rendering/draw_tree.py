"""Draws the curriculum of a goalpost as SVG: a row an episode, from the goalpost over lemmas to lifts.

Every node is a link whose label says in words what shape, fill and place mean; no text of a model is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import acos, sin
from typing import Final

from markupsafe import Markup

from events.facts.values import Axis
from events.index.rows import AppearanceEntry, GapEntry
from events.projections.goalpost_history import EpisodeHistory
from events.text.phrases import words

Link = Callable[..., str]
"""Makes addresses of a run's pages, as `PageRequest.link` does."""

_ROW: Final = 42
_STEP: Final = 74
_RADIUS: Final = 10
_SPINE: Final = 116
_TOP: Final = 54


def curriculum_svg(rows: Sequence[EpisodeHistory | GapEntry], link: Link) -> Markup:
    """Episodes and evaluations from top to bottom, in the order given."""
    episodes = [row for row in rows if isinstance(row, EpisodeHistory)]
    lemmas = max((len(episode.lemmas) for episode in episodes), default=1) or 1
    lifts = max((len(episode.lifts) for episode in episodes), default=1) or 1
    turn = _SPINE + 40 + lemmas * _STEP
    width, height = turn + 20 + lifts * _STEP, _TOP + _ROW * len(rows)
    parts = [
        _text(54, 16, "iteration", "head end"),
        _text(96, 16, "gap", "head end"),
        _text(_SPINE - 8, 16, "goalpost", "head"),
        _text(_SPINE + 46, 32, "lemmas", "head"),
        _text(turn + 10, 32, "lifts", "head"),
        _line(_SPINE, 22, _SPINE, height - _ROW / 2 - 4, "edge"),
        Markup('<path class="root" d="M{} 20l8 8l-8 8l-8 -8z"/>').format(_SPINE),
        *(_row(row, _TOP + number * _ROW + 12, turn, link) for number, row in enumerate(rows)),
    ]
    return Markup(
        '<svg class="tree" role="group" aria-label="Curriculum tree: {} rows; the same as a list is below it" '
        'width="{}" height="{}" viewBox="0 0 {} {}">{}</svg>'
    ).format(len(rows), width, height, width, height, Markup("").join(parts))


def tree_key() -> Markup:
    """The legend."""
    marks = (
        ("io", True, 0.4, "accepted, axis io, 4 of 10 solved it"),
        ("function", True, 0.4, "accepted, axis function"),
        ("io", False, 0.1, "rejected after it was tried"),
        ("io", False, None, "rejected untried"),
    )
    items = [
        Markup('<li><svg class="tree" width="24" height="24" viewBox="0 0 24 24" aria-hidden="true">{}</svg> {}</li>').format(
            _mark(12, 12, "io" if axis == "io" else "function", accepted, level), text
        )
        for axis, accepted, level, text in marks
    ]
    return Markup('<ul class="key">{}</ul>').format(Markup("").join(items))


def node_link(appearance: AppearanceEntry, link: Link) -> str:
    """Address of the question, or of the proposal where that was no question."""
    if appearance.question is not None:
        return link("questions", appearance.question)
    return link("attempts", appearance.stream, appearance.version, 0)


def proposal_text(appearance: AppearanceEntry) -> str:
    """A proposal and what became of it, in words."""
    name = f"{appearance.origin} proposal {appearance.attempt}"
    rejected = f"rejected as {words(appearance.reason)}" if appearance.reason else "not judged yet"
    state = "accepted" if appearance.accepted else rejected
    solved = f", solved {appearance.successes} of {appearance.attempts}" if appearance.attempts else ""
    reward = "" if appearance.reward is None else f", reward {appearance.reward:.2f}"
    return f"{name}, axis {appearance.axis}: {state}{solved}{reward}"


def _row(row: EpisodeHistory | GapEntry, y: int, turn: int, link: Link) -> Markup:
    parts = [_text(54, y + 4, str(row.iteration), "number end")]
    if row.gap is not None:
        parts.append(_text(96, y + 4, f"{row.gap:.2f}", "number end"))
        parts.append(_mark(_SPINE, y, "io", True, 1 - row.gap, radius=7, kind="gap"))
    if isinstance(row, GapEntry):
        parts.append(_text(_SPINE + 18, y + 4, "evaluation", "note"))
        return Markup("<g>{}</g>").format(Markup("").join(parts))
    first = [(_SPINE + 46 + column * _STEP, appearance) for column, appearance in enumerate(row.lemmas)]
    second = [(turn + 10 + column * _STEP, appearance) for column, appearance in enumerate(row.lifts)]
    if nodes := first + second:
        parts.insert(0, _line(_SPINE + (7 if row.gap is not None else 0), y, nodes[-1][0], y, "edge"))
    elif row.ending is not None:
        parts.append(_text(_SPINE + 18, y + 4, words(row.ending), "note"))
    parts += [_node(x, y, appearance, link) for x, appearance in nodes]
    return Markup("<g>{}</g>").format(Markup("").join(parts))


def _node(x: int, y: int, appearance: AppearanceEntry, link: Link) -> Markup:
    rate = appearance.successes / appearance.attempts if appearance.attempts and appearance.successes is not None else None
    parts = [_mark(x, y, appearance.axis or "io", appearance.accepted, rate)]
    if rate is not None:
        solved = f"{appearance.successes}/{appearance.attempts}"
        parts.append(_text(x + _RADIUS + 4, y + 4, solved, "number" if appearance.accepted else "note"))
    if appearance.reason:
        parts.append(_text(x - _RADIUS, y + _RADIUS + 12, words(appearance.reason), "note"))
    text, inside = proposal_text(appearance), Markup("").join(parts)
    return Markup('<a href="{}" aria-label="{}"><title>{}</title>{}</a>').format(
        node_link(appearance, link), text, text, inside
    )


def _mark(
    x: int, y: int, axis: Axis, accepted: bool | None, level: float | None, *, radius: int = _RADIUS, kind: str = ""
) -> Markup:
    """A circle (`io`) or square (`function`), filled to `level` (0 to 1); dashed if rejected, crossed if rejected untried."""
    name = f"{kind or 'node'} {'turned' if accepted is False else 'kept' if accepted else 'waiting'}"
    if axis == "io":
        outline = Markup('<circle cx="{}" cy="{}" r="{}"/>').format(x, y, radius)
    else:
        outline = Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(x - radius, y - radius, 2 * radius, 2 * radius)
    inside = Markup("")
    if level:
        inside = Markup('<path class="level" d="{}"/>').format(_filled(x, y, radius, axis, min(1.0, level)))
    elif level is None and accepted is False:
        inside = Markup('<path class="cross" d="M{} {}l8 8m0 -8l-8 8"/>').format(x - 4, y - 4)
    return Markup('<g class="{}">{}{}</g>').format(name, outline, inside)


def _filled(x: int, y: int, radius: int, axis: Axis, level: float) -> str:
    if axis == "function":
        return f"M{x - radius} {y + radius}h{2 * radius}v{-2 * radius * level:.1f}h{-2 * radius}z"
    if level >= 1:
        return f"M{x - radius} {y}a{radius} {radius} 0 1 0 {2 * radius} 0a{radius} {radius} 0 1 0 {-2 * radius} 0z"
    # The chord at that height of the circle, and the arc below it, the longer one if more than half is filled.
    half = radius * sin(acos(1 - 2 * level))
    edge = y + radius - 2 * radius * level
    return f"M{x - half:.1f} {edge:.1f}A{radius} {radius} 0 {int(level > 0.5)} 0 {x + half:.1f} {edge:.1f}z"


def _line(x: float, y: float, to_x: float, to_y: float, name: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(name, x, y, to_x, to_y)


def _text(x: float, y: float, text: str, name: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(name, x, y, text)
