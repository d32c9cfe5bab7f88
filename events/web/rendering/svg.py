"""Draws figures as SVG without scripts or inline styles; the style sheet has colours and fonts, under the class `figure`.

Guarantees: numbers that cannot be drawn are left out, long lines are thinned, names are escaped, and equal figures give equal
texts. Lines differ by dashes and marks, not by colours alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

from markupsafe import Markup

from events.export.charts import Figure, Series, axis_range, drawable, spread_labels
from events.text.safe_text import one_line

STYLES: Final = 6
"""Combinations of colour, dashes and mark; from the seventh line on they repeat with hollow marks."""
LINES: Final = 24
"""Lines that are drawn, at most."""
POINTS: Final = 480
"""Points of all lines and edges of bands together, at most, about."""
MARKS: Final = 48
"""Points with a mark and a tooltip, at most, about."""
TICKS: Final = 6
"""Ticks of an axis, at most."""
_LETTER: Final = 7.4
"""Mean width of a character, in pixels."""
_ROW: Final = 14
"""Height of a label, in pixels."""
_NAME: Final = 24
"""Characters of a label, at most."""
_SAME: Final = 1e-200
"""Numbers that differ by less count as equal."""
_TOP, _BOTTOM, _LEFT = 26, 34, 50
_SHAPES: Final = (
    "m-2.4 0a2.4 2.4 0 1 0 4.8 0a2.4 2.4 0 1 0-4.8 0z",
    "m-2.3-2.3h4.6v4.6h-4.6z",
    "m0-3.2l3 5.4h-6z",
    "m0-3.4l3.4 3.4-3.4 3.4-3.4-3.4z",
    "m0 3.2l3-5.4h-6z",
    "m-3-1h6v2h-6z",
)
"""Paths of marks, around a point."""


class _Axis(NamedTuple):
    """Maps values to pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Pixel of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


class _Line(NamedTuple):
    """A line with its CSS class and mark."""

    style: str
    shape: str
    series: Series

    @property
    def last(self) -> str:
        """Label: name and last value."""
        return f"{one_line(self.series.name, _NAME)} {short_number(self.series.points[-1][1])}".strip()


def figure_svg(figure: Figure, *, width: int = 520, height: int = 220) -> Markup:
    """The drawing of a figure, `width` by at least `height` pixels; higher where the labels need it."""
    lines = list(_lines(figure.series))
    height = max(height, _TOP + _BOTTOM + _ROW * len(lines))
    omitted = sum(bool(series.points) for series in figure.series[LINES:])
    description = "; ".join(_description(line.series) for line in lines) or "no data"
    body = _plot(figure, lines, width, height) if lines else _text(width / 2, height / 2, "no data", "middle")
    return Markup(
        '<svg class="figure" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{title}</title>'
        "<desc>{y} by {x}: {description}{more}</desc>{body}</svg>"
    ).format(
        w=width,
        h=height,
        title=one_line(figure.title),
        x=one_line(figure.x),
        y=one_line(figure.y),
        description=description,
        more=f"; {omitted} lines are not drawn" if omitted else "",
        body=body,
    )


def history_bars(measures: Sequence[tuple[int, float, float | None]], last: int, *, label: str) -> Markup:
    """Bars of 180 by 32 pixels over iterations 0 to `last`: share of attempts passed, and behind it the best share of tests.

    Args:
        measures: iteration, gap, and best share of tests or None, in order.
        last: iteration at the right end.
        label: text for those who do not see it.
    """
    width = max(2.0, round(180 / (max(1, last) + 1) - 0.5, 1))
    bars = []
    for iteration, gap, best_share in measures:
        x = round(min(1.0, iteration / max(1, last)) * (180 - width), 1)
        for css, share in (("tests", best_share or 0.0), ("passed", 1 - gap)):
            # What was measured and is 0 has a line, unlike what was not measured.
            height = round(1 + 30 * min(1.0, max(0.0, share)), 1)
            bars.append(Markup('<path class="{}" d="M{} 32h{}v-{}h-{}z"/>').format(css, x, width, height, width))
    frame = Markup('<svg class="bars" role="img" viewBox="0 0 180 32" width="180" height="32"><title>{}</title>{}</svg>')
    return frame.format(one_line(label), Markup("").join(bars))


def short_number(value: float) -> str:
    """A number in three digits; thousands as integers."""
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    mantissa, _, exponent = f"{value:.3g}".replace("-", "\N{MINUS SIGN}").partition("e")
    return f"{mantissa}e{exponent.replace('+', '')}" if exponent else mantissa


def _lines(series: Sequence[Series]) -> Iterator[_Line]:
    """Lines with a point that can be drawn."""
    shown = series[:LINES]
    edges = sum(1 + 2 * bool(line.band) for line in shown)
    for number, original in enumerate(shown):
        line = drawable(original)
        if line.points:
            kept = _thinned(line.points, max(20, POINTS // edges))
            xs = {x for x, _ in kept}
            band = [edge for edge in line.band if edge[0] in xs]
            style = f"s{number % STYLES + 1}" + (" again" if number >= STYLES else "")
            yield _Line(style, _SHAPES[number % STYLES], Series(line.name, tuple(kept), tuple(band)))


def _thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """The first and the last point, and the lowest and the highest of each stretch between, so that extremes stay."""
    if len(points) <= most:
        return list(points)
    # Two points stay of each stretch, so it is twice as long as the thinning factor.
    stretch = -(-2 * (len(points) - 2) // (most - 2))
    kept = {points[0], points[-1]}
    for start in range(1, len(points) - 1, stretch):
        part = points[start : min(start + stretch, len(points) - 1)]
        kept |= {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
    return sorted(kept)


def _description(series: Series) -> str:
    values = [y for _, y in series.points]
    change = f"{short_number(values[0])} to {short_number(values[-1])}" if len(values) > 1 else short_number(values[0])
    name, low, high = one_line(series.name, _NAME), short_number(min(values)), short_number(max(values))
    return f"{name} {change}, between {low} and {high}".strip()


def _plot(figure: Figure, lines: Sequence[_Line], width: int, height: int) -> Markup:
    room = min(width / 2, 14 + _LETTER * max(len(line.last) for line in lines))
    xs = [x for line in lines for x, _ in line.series.points]
    whole = all(x.is_integer() for x in xs)
    right = _axis(min(xs), max(xs), _LEFT, width - room, whole=whole, tight=True)
    up = _axis(*axis_range([line.series for line in lines], figure.limits), height - _BOTTOM, _TOP)
    step = -(-sum(len(line.series.points) for line in lines) // MARKS)
    parts = [*_grid(figure, right, up), *(_band(line, right, up) for line in lines if line.series.band)]
    parts += [part for line in lines for part in _drawn_line(line, right, up, step)]
    return Markup("").join([*parts, *_names(lines, right, up)])


def _axis(low: float, high: float, start: float, end: float, *, whole: bool = False, tight: bool = False) -> _Axis:
    """An axis with round ticks; a tight one ends at its values, others end at a tick."""
    if high - low <= max(_SAME, 1e-9 * max(abs(low), abs(high))):
        pad = 1.0 if abs(low) <= _SAME or (whole and abs(low) < 1e6) else abs(low) / 10
        low, high = low - pad, high + pad
    # Steps of 1, 2 or 5 times a power of ten, the smallest that needs no more than TICKS ticks.
    size = 10.0 ** floor(log10((high - low) / TICKS))
    step = next(factor * size for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * size) <= TICKS - 1)
    step = max(1.0, step) if whole else step
    first, last = (ceil(low / step), floor(high / step)) if tight else (floor(low / step + 1e-9), ceil(high / step - 1e-9))
    ticks = tuple(number * step for number in range(first, last + 1))
    return _Axis(low, high, start, end, ticks) if tight else _Axis(ticks[0], ticks[-1], start, end, ticks)


def _grid(figure: Figure, right: _Axis, up: _Axis) -> Iterator[Markup]:
    rule = Markup('<path class="grid" d="{}"/>')
    yield rule.format(Markup("").join(f"M{right.start} {up.at(tick)}H{right.end:.1f}" for tick in up.ticks))
    yield Markup('<path class="axis" d="M{} {}H{}{}"/>').format(
        right.start, up.start, f"{right.end:.1f}", Markup("").join(f"M{right.at(tick)} {up.start}v4" for tick in right.ticks)
    )
    for tick in up.ticks:
        yield _text(_LEFT - 6, up.at(tick) + 4, short_number(round(tick, 12) or tick), "end")
    for tick in right.ticks:
        yield _text(right.at(tick), up.start + 16, short_number(round(tick, 12) or tick), "middle")
    yield _text(4, 13, one_line(figure.y, 60), "label")
    yield _text(right.end, up.start + 30, one_line(figure.x, 60), "label end")


def _band(line: _Line, right: _Axis, up: _Axis) -> Markup:
    band = line.series.band
    there = [(right.at(x), up.at(high)) for x, _, high in band]
    back = [(right.at(x), up.at(low)) for x, low, _ in reversed(band)]
    if len(band) == 1:
        (x, top), (_, bottom) = *there, *back
        return Markup('<path class="whisker {}" d="M{} {}V{}"/>').format(line.style, x, top, bottom)
    return Markup('<path class="band {}" d="{}Z"/>').format(line.style, _path(there + back))


def _drawn_line(line: _Line, right: _Axis, up: _Axis, step: int) -> Iterator[Markup]:
    points = [(right.at(x), up.at(y)) for x, y in line.series.points]
    if len(points) > 1:
        yield Markup('<path class="line {}" d="{}"/>').format(line.style, _path(points))
    # From the end, so that the last point is always marked.
    for index in range(len(points) - 1, -1, -step):
        (x, y), (at, value) = line.series.points[index], points[index]
        yield Markup('<path class="mark {}" d="M{:g} {:g}{}"><title>{}: {}</title></path>').format(
            line.style, at, value, line.shape, short_number(x), short_number(y)
        )


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _names(lines: Sequence[_Line], right: _Axis, up: _Axis) -> Iterator[Markup]:
    """Labels beside the ends of lines, moved apart where they would overlap."""
    wanted = sorted((up.at(line.series.points[-1][1]), index) for index, line in enumerate(lines))
    rows = spread_labels([y for y, _ in wanted], _ROW, up.end, up.start)
    for (y, index), at in zip(wanted, rows, strict=True):
        line, x = lines[index], right.at(lines[index].series.points[-1][0])
        if abs(at - y) > _ROW / 4 or right.end - x > 1:
            yield Markup('<path class="leader" d="M{} {}L{} {}"/>').format(x + 4, y, f"{right.end + 9:.1f}", f"{at:.1f}")
        yield _text(right.end + 11, at + 4, line.last, f"name {line.style}")


def _text(x: float, y: float, text: str, css: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(css, f"{x:.1f}", f"{y:.1f}", text)
