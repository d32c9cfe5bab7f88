"""Figures of a run: as data, as SVG of the server, as files for papers."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from events.__main__ import app
from events.export.charts import BOOTSTRAP_DRAWS, REASONS, UNIT, Figure, Series, compare_figures, run_figures, spread_labels
from events.export.plots import NUMBERS, write
from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.types import Reason
from events.projections.run_summary import RunSummary, fold
from events.pure.estimators import pass_at_k_interval
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.web.rendering.svg import LINES, figure_svg, history_bars, short_number
from events.web.rendering.template_filters import figure_rows
from tests.support.example_runs import example_run

SVG = "{http://www.w3.org/2000/svg}"


def summary(log: Log | None = None) -> RunSummary:
    """Two iterations with everything, evaluated at the start and at the end."""
    log = log or MemoryLog()
    tale = example_run(log).run().goalpost(2).evaluate(successes=0).evaluate("goalposts", successes=1)
    tale.start(3).episode(rejected=["degenerate", "unsafe"], gap_successes=4).episode(lift=None).practice(passing=2).finish()
    tale.update().play().update().evaluate(successes=9).evaluate("goalposts", successes=5)
    return fold(RunSummary(), log.read())


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def points(figure: Figure, series: str) -> tuple[tuple[float, float], ...]:
    return next(line.points for line in figure.series if line.name == series)


def line(*ys: float, name: str = "a") -> Figure:
    return Figure("f", "t", "x", "y", (Series(name, tuple(enumerate(ys))),))


def parts(picture: str, tag: str, css: str) -> list[ElementTree.Element]:
    tree = ElementTree.fromstring(picture)
    return [element for element in tree.iter() if element.tag == tag and css in element.get("class", "").split()]


def texts(picture: str) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(picture).iter("text")]


def test_the_gap_is_that_of_play_and_that_of_evaluations() -> None:
    gap = by_name(run_figures(summary()))["gap"]
    assert points(gap, "while playing")[0] == (1, pytest.approx(0.8))
    assert [x for x, _ in points(gap, "evaluated")] == [0, 2]
    assert all(low <= y <= high for (_, y), (_, low, high) in zip(gap.series[1].points, gap.series[1].band, strict=True))


def test_evaluations_have_the_intervals_of_the_estimators() -> None:
    folded = summary()
    (first, _) = (evaluation for evaluation in folded.evaluations if evaluation.name == "test")
    figure = by_name(run_figures(folded))["pass-at-test"]
    low, high = pass_at_k_interval(first.attempts, sorted(first.successes.values()), min(first.pass_at), BOOTSTRAP_DRAWS)
    assert figure.series[0].points[0] == (0, first.pass_at[min(first.pass_at)])
    assert figure.series[0].band[0] == (0, low, high)


def test_shares_of_proposals_add_up() -> None:
    figures = by_name(run_figures(summary()))
    (accepted,) = (y for x, y in points(figures["acceptance"], "lemmas") if x == 1)
    rejected = {series.name: dict(series.points)[1] for series in figures["rejected"].series}
    assert accepted == 0.5
    # Six proposals: four of lemmas, two of lifts.
    assert rejected == {name: pytest.approx(1 / 6) for name in ("malformed", "broken or unsafe", "degenerate")}


def test_every_reason_of_rejection_is_in_one_line() -> None:
    assert sorted([reason for reasons in REASONS.values() for reason in reasons]) == sorted(Reason.__args__)


def test_what_learning_says_has_a_line_for_each_policy() -> None:
    figures = by_name(run_figures(summary()))
    assert points(figures["kl-reference"], "shared") == ((1, 0.01), (2, 0.01))
    assert points(figures["silent"], "shared") == ((1, 0.25), (2, 0.25))


def test_completions_are_as_long_as_their_tokens() -> None:
    folded = summary()
    lengths = points(by_name(run_figures(folded))["length"], "student")
    length = folded.iterations[1].lengths["student"]
    assert lengths[0] == (1, length.total / length.count)
    assert folded.iterations[1].tokens == sum(mean.total for mean in folded.iterations[1].lengths.values())


def test_figures_without_data_are_left_out() -> None:
    assert run_figures(RunSummary()) == []
    log = MemoryLog()
    example_run(log).run().goalpost().evaluate()
    assert [figure.name for figure in run_figures(fold(RunSummary(), log.read()))] == ["pass-at-test"]
    assert all(series.points for figure in run_figures(summary()) for series in figure.series)


def test_an_iteration_counts_once_it_has_ended() -> None:
    log = MemoryLog()
    example_run(log).run().goalpost().play().start(1).episode()
    assert points(by_name(run_figures(fold(RunSummary(), log.read())))["gap"], "while playing")[-1][0] == 1


def test_names_of_figures_are_fit_for_files_whatever_the_question_set_is_called() -> None:
    log = MemoryLog()
    example_run(log).run().goalpost().evaluate("../../etc/<b>").evaluate("x" * 500)
    names = [figure.name for figure in run_figures(fold(RunSummary(), log.read()))]
    assert names[0] == "pass-at-etc-b"
    assert all(len(name) < 100 for name in names)


def test_compared_runs_have_a_line_each_in_every_figure_that_they_share() -> None:
    folded, log = summary(), MemoryLog()
    example_run(log).run().goalpost().play()
    figures = by_name(compare_figures({"one": run_figures(folded), "other": run_figures(fold(RunSummary(), log.read()))}))
    assert [series.name for series in figures["gap-while-playing"].series] == ["one", "other"]
    assert figures["gap-evaluated"].series[1] == Series("other", ())
    assert figures["gap-while-playing"].series[0].points == by_name(run_figures(folded))["gap"].series[0].points


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted))
def test_names_of_lines_do_not_cover_each_other_and_stay_in_order(wanted: list[float]) -> None:
    placed = spread_labels(wanted, 0.05, 0, 1)
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(placed))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in placed)


def test_names_with_room_stay_where_they_are_wanted() -> None:
    assert spread_labels([0.1, 0.5, 0.52], 0.05, 0, 1) == [0.1, 0.5, 0.55]


def test_a_drawn_figure_says_what_it_shows_to_who_cannot_see_it() -> None:
    tree = ElementTree.fromstring(figure_svg(by_name(run_figures(summary()))["gap"]))
    assert tree.get("role") == "img"
    assert tree.findtext("title") == "Gap to the goalposts"
    assert (tree.findtext("desc") or "").startswith("mean gap by iteration: while playing 0.8 to ")


def test_lines_are_named_at_their_ends_and_differ_by_more_than_colour() -> None:
    figure = Figure("f", "t", "x", "y", tuple(Series(f"line {n}", ((0, n), (1, n))) for n in range(3)))
    picture = figure_svg(figure)
    assert [element.text for element in parts(picture, "text", "name")] == ["line 2 2", "line 1 1", "line 0 0"]
    assert len({(element.get("d") or "").partition("m")[2] for element in parts(picture, "path", "mark")}) == 3
    assert {element.get("class") for element in parts(picture, "path", "line")} == {"line s1", "line s2", "line s3"}


def test_axes_have_round_ticks_that_hold_all_values() -> None:
    assert texts(figure_svg(line(0.31, 0.93, 1.27)))[:4] == ["0", "0.5", "1", "1.5"]
    assert texts(figure_svg(line(-40, 250)))[:5] == ["\N{MINUS SIGN}100", "0", "100", "200", "300"]


def test_a_share_is_drawn_from_0_to_1_and_what_is_beyond_widens_the_axis() -> None:
    ticks = texts(figure_svg(line(0.4, 0.5)._replace(limits=UNIT)))
    assert (ticks[0], ticks[5]) == ("0", "1")
    assert "1.5" in texts(figure_svg(line(0.4, 1.4)._replace(limits=UNIT)))


def test_text_takes_no_effect_in_a_drawn_figure() -> None:
    hostile = '</svg><script>alert("1")</script>\x1b\u202e{0}'
    figure = Figure("f", hostile, hostile, hostile, (Series(hostile, ((1, 1), (2, 2))),))
    for picture in (figure_svg(figure), history_bars([(0, 1.0, 0.5)], 3, label=hostile)):
        assert "<script" not in picture
        assert "\x1b" not in picture
        assert ElementTree.fromstring(picture).tag == "svg"


def test_pictures_have_no_style_of_their_own() -> None:
    picture = "".join(figure_svg(figure) for figure in run_figures(summary())) + history_bars([(1, 0.5, None)], 1, label="x")
    assert " style=" not in picture
    assert "<style" not in picture


def test_a_long_line_keeps_its_ends_and_its_extremes_and_stays_small() -> None:
    ys = [0.5] * 20_000
    ys[7_001], ys[12_345] = 1.0, 0.0
    (path,) = parts(figure_svg(line(*ys)), "path", "line")
    places = [float(part.split()[1]) for part in (path.get("d") or "")[1:].split("L")]
    assert (min(places), max(places)) == (26, 186)
    crowd = tuple(
        Series(f"run {n}", tuple((x, x * n % 7) for x in range(5_000)), tuple((x, 0, 7) for x in range(5_000)))
        for n in range(40)
    )
    picture = figure_svg(Figure("f", "t", "x", "y", crowd))
    assert len(picture) < 30_000
    assert f"{40 - LINES} lines are not drawn" in picture


@pytest.mark.parametrize(
    "ys", [(), (nan,), (inf, nan), (7.0,), (7.0, 7.0), (1e299, -1e299), (1e308, 1.0), (5e-324, 0.0), (1e16, 1e16 + 2)]
)
def test_odd_values_are_drawn_or_left_out(ys: tuple[float, ...]) -> None:
    picture = figure_svg(line(*ys))
    assert ElementTree.fromstring(picture).tag == "svg"
    assert not {"nan", "inf"} & set(picture.split('"'))


def test_bars_show_what_passed_before_the_best_share_of_tests_and_a_line_where_nothing_did() -> None:
    picture = history_bars([(0, 1.0, None), (5, 1.0, 0.5), (10, 0.25, 1.0)], 10, label="gap 0.25")
    drawn = [(path.get("class"), path.get("d")) for path in ElementTree.fromstring(picture).iter("path")]
    assert drawn == [
        *(("tests", "M0.0 32h15.9v-1.0h-15.9z"), ("passed", "M0.0 32h15.9v-1.0h-15.9z")),
        *(("tests", "M82.0 32h15.9v-16.0h-15.9z"), ("passed", "M82.0 32h15.9v-1.0h-15.9z")),
        *(("tests", "M164.1 32h15.9v-31.0h-15.9z"), ("passed", "M164.1 32h15.9v-23.5h-15.9z")),
    ]


_NUMBERS = st.floats() | st.integers(-5, 5).map(float)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Series,
            st.text(max_size=30),
            st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=30).map(tuple),
            st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS), max_size=5).map(tuple),
        ),
        max_size=5,
    ),
    st.none() | st.just(UNIT),
    st.text(),
)
def test_every_figure_can_be_drawn(series: list[Series], limits: tuple[float, float] | None, text: str) -> None:
    picture = figure_svg(Figure("f", text, text, text, tuple(series), limits))
    assert ElementTree.fromstring(picture).get("role") == "img"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.12345, "0.123"), (-0.5, "\N{MINUS SIGN}0.5"),
        (12345.6, "12\N{NARROW NO-BREAK SPACE}346"), (4.9e-13, "4.9e\N{MINUS SIGN}13"),
        (2.5e7, "2.5e07"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text


def plot(*words: object) -> Result:
    return CliRunner().invoke(app, ["plot", *map(str, words)])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    folder.mkdir()
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        example_run(log).run().goalpost().evaluate("goalposts").start(1).episode().finish()
    return folder


@pytest.fixture(scope="module")
def plotted(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The plots of the run, and the names of its figures."""
    folder = tmp_path_factory.mktemp("plots") / "a"
    return folder, json.loads(plot(recorded, "--out", folder, "--json").stdout)["figures"]


def test_plots_are_pictures_with_their_numbers(plotted: tuple[Path, list[str]]) -> None:
    folder, names = plotted
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert files.keys() == {f"{name}.{kind}" for name in names for kind in ("svg", "png", "csv")} | {NUMBERS}
    assert files["gap.png"].startswith(b"\x89PNG")
    assert ElementTree.fromstring(files["gap.svg"]).tag == f"{SVG}svg"


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write(run_figures(summary())[:3], tmp_path / place, ["one"])
    assert [(tmp_path / "a" / file.name).read_bytes() == file.read_bytes() for file in (tmp_path / "b").iterdir()] == [
        True
    ] * 10


def test_the_numbers_beside_a_plot_are_the_points_of_its_figure(recorded: Path, plotted: tuple[Path, list[str]]) -> None:
    folder, _ = plotted
    with closing(open_log(recorded / "log.sqlite")) as log:
        gap = by_name(run_figures(fold(RunSummary(), log.read())))["gap"]
    with (folder / "gap.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["series"], float(row["iteration"]), float(row["mean gap"])) for row in rows] == [
        (series.name, x, y) for series in gap.series for x, y in series.points
    ]
    assert [(float(row["low"]), float(row["high"])) for row in rows if row["low"]] == [
        (low, high) for _, low, high in gap.series[1].band
    ]
    output = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    assert output["runs"] == ["one"]
    assert output["figures"][0]["series"][0]["points"] == [list(point) for point in gap.series[0].points]


def test_several_runs_are_compared_and_those_of_one_name_are_numbered(recorded: Path, tmp_path: Path) -> None:
    ended = plot(recorded, recorded / "log.sqlite", "--out", tmp_path / "a", "--format", "png", "--json")
    output = json.loads(ended.stdout)
    assert output["runs"] == ["one 1", "one 2"]
    assert "gap-while-playing" in output["figures"]
    assert {file.suffix for file in (tmp_path / "a").iterdir()} == {".png", ".csv", ".json"}


def test_plots_overwrite_nothing(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    assert isinstance(plot(recorded, "--out", tmp_path).exception, BadInput)
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_an_unknown_format_and_a_run_without_figures_are_said_before_anything_is_written(
    recorded: Path, tmp_path: Path
) -> None:
    assert "'gif'" in str(plot(recorded, "--out", tmp_path / "a", "--format", "gif").exception)
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        example_run(log).run()
    assert "nothing to plot" in str(plot(tmp_path, "--out", tmp_path / "a").exception)
    assert not (tmp_path / "a").exists()


def test_names_that_differ_in_nothing_a_disk_knows_get_numbers_and_odd_values_are_null(tmp_path: Path) -> None:
    odd = [line(1, inf, nan, 3), line()._replace(name="F"), line(1e299, -1e299)._replace(name="f", limits=UNIT)]
    assert write(odd, tmp_path / "a", ["$x$ <b>"], ["png"]) == ["f", "F-2", "f-3"]
    output = json.loads((tmp_path / "a" / NUMBERS).read_text(encoding="utf-8"))
    assert output["figures"][0]["series"][0]["points"] == [[0, 1], [1, None], [2, None], [3, 3]]


def test_text_takes_no_effect_in_a_plot(tmp_path: Path) -> None:
    name = "$x^2$ <script>&"
    write(
        [Figure("f", name, name, name, (Series(name, ((0, 1), (1, 2)), ((0, 0, 2), (1, 1, 3))),))], tmp_path / "a", [], ["svg"]
    )
    tree = ElementTree.parse(tmp_path / "a" / "f.svg")
    assert [element.text for element in tree.iter(f"{SVG}text")].count(name) == 4
    assert f"{SVG}script" not in {element.tag for element in tree.iter()}


def test_throughput_is_tokens_by_the_clock() -> None:
    folded = summary()
    folded.iterations[1].ended = folded.iterations[1].began + timedelta(seconds=2)
    assert points(by_name(run_figures(folded))["speed"], "playing")[0] == (1, folded.iterations[1].tokens / 2)


@pytest.mark.parametrize(("lines", "rows"), [(1, 40), (6, 20), (24, 10)])
def test_the_more_lines_a_figure_has_the_fewer_rows_has_its_table(lines: int, rows: int) -> None:
    points = tuple((float(x), 0.5) for x in range(200))
    table = figure_rows(Figure("f", "F", "x", "y", tuple(Series(str(number), points) for number in range(lines))))
    assert table.of == 200
    assert len(table.lines) == rows
    assert (table.lines[0][0], table.lines[-1][0]) == (0, 199)
