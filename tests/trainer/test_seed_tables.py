"""Tables over seeds, predictions and documents of an experiment, from logs made by hand, with every number worked out here."""

from __future__ import annotations

from contextlib import closing
from math import isnan
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.facts.label_facts import LabelVoted
from events.facts.types import EpisodeStarted, QuestionProposed, QuestionValidated
from events.facts.values import BlobHash, IOPair, Question, canonical
from events.projections.figures import RunningMean
from events.stores import open_log
from roles.pocket.operations import OPERATIONS
from roles.pocket.world import Step, statement
from tests.support.example_runs import START_WEIGHTS, about_a_document, example_run
from trainer.experiments.experiment_plan import ExperimentPlan, Prediction
from trainer.experiments.figures import plots_of
from trainer.experiments.page import page
from trainer.experiments.report import read, write
from trainer.experiments.results import Results
from trainer.experiments.seed_tables import TABLES, difference, estimate, rate
from trainer.experiments.votes import composition

COMMAND = "python -m trainer.experiment configs/experiments/lab.toml --report"
LISTS = [operation for operation in OPERATIONS if operation.family == "lists"]
COMMON, REST, TARGET = (
    next(Step(each, (each.parameters or (0,))[0]) for each in LISTS if (each.rare, each.target) == kind)
    for kind in ((False, False), (True, False), (True, True))
)
Votes = list[tuple[int, tuple[Step, ...], bool | None]]
"""Iteration, composition and whether the label is right (None: a tie)."""


def certain_run(folder: Path, recipe: str, seed: int, passed: bool) -> None:
    """A run whose student is 90 % certain of both answers after it, of which one is wrong, and before it of a right one."""
    with closing(open_log(folder / f"{recipe}-{seed}" / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(recipe=recipe, seed=seed).evaluate().calibrate(scores=[(True, 0.5, 0.9)])
        tale.start().finish().update().evaluate().calibrate(scores=[(passed, 0.5, 0.9), (False, 0.5, 0.9)]).end()


def voted_run(folder: Path, recipe: str, seed: int, votes: Votes) -> None:
    with closing(open_log(folder / f"{recipe}-{seed}" / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(recipe=recipe, seed=seed)
        for number, (iteration, steps, right) in enumerate(votes):
            question = Question(statement=statement(steps), program="def f(x):\n    return x", private=(PAIR,))
            stream, blob = f"episode/{iteration:05}/{number:03}", log.put(canonical(question))
            while tale.iteration < iteration:
                tale.start().finish()
            same = {"question": question.id, "blob": blob}
            log.append(stream, [EpisodeStarted(iteration=iteration, purpose="unguided", axis="function", seed=0, **same)])
            proposed = QuestionProposed(
                seat="open", attempt=1, parent=question.id, generation=tale.generation("p", 1, "teacher")
            )
            log.append(stream, [proposed])
            log.append(stream, [QuestionValidated(seat="open", similarity=0, aligned=None, **same)])
            label = None if right is None else BlobHash(blob)
            counts = {"attempts": 4, "voters": 4, "votes": 2, "runner_up": 2 if right is None else 1}
            fact = LabelVoted(of=1, seat="open", question=question.id, label=label, agrees=right, right=right, **counts)
            log.append(stream, [fact])
        tale.end()


def tried_run(folder: Path, recipe: str, seed: int, gains: list[tuple[int, int]], promoted: int) -> None:
    """A run with two trials an iteration, on four goalposts of which one is passed before, and promotions of the first."""
    with closing(open_log(folder / f"{recipe}-{seed}" / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(recipe=recipe, seed=seed)
        for pair in gains:
            tale.start(0)
            begun = [tale.begin_trial(number) for number in (1, 2)]
            for trial, gain in zip(begun, pair, strict=True):
                tale.examine_trial(trial, START_WEIGHTS, before=1, after=1 + gain)
            if tale.iteration <= promoted:
                tale.promote(begun[0], START_WEIGHTS)
            tale.finish()
        tale.end()


def document_run(folder: Path, recipe: str, seed: int, matching: dict[str, int]) -> None:
    """A run with a question about a document at each level, which so many of 10 answers match without the document."""
    with closing(open_log(folder / f"{recipe}-{seed}" / "log.sqlite", create=True)) as log:
        tale = example_run(log).run(recipe=recipe, seed=seed).start(len(matching))
        for level, count in matching.items():
            about_a_document(tale, level, count)
        tale.finish().end()


PAIR = IOPair(input="[1]", output="[1]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two recipes on two seeds: one that is evaluated and one that votes."""
    folder = tmp_path_factory.mktemp("lab") / "runs"
    for seed, passed in enumerate((True, False)):
        certain_run(folder, "r_tuning", seed, passed)
    voted_run(folder, "sqlm", 0, [(1, (COMMON, REST), True), (1, (REST, COMMON), False), (8, (REST, TARGET), False)])
    voted_run(folder, "sqlm", 1, [(1, (COMMON, REST), True), (2, (COMMON, COMMON), None), (8, (TARGET, COMMON), True)])
    return folder


def plan(*predictions: Prediction, document: str | None = None) -> ExperimentPlan:
    fields = {"sets": {"test": "held out"}, "predictions": predictions, "document": document}
    return ExperimentPlan(name="lab", seeds=(0, 1), recipes={"r_tuning": {}, "sqlm": {}}, **fields)


def rows(results: Results, table: str) -> dict[tuple[str, ...], dict[str, float | None]]:
    cells = TABLES[table].cells(results)
    means = {key: {name: estimate(means) for name, means in row.items()} for key, row in cells.items()}
    return {key: {name: mean and mean.value for name, mean in row.items()} for key, row in means.items()}


@pytest.fixture(scope="module")
def more_runs(tmp_path_factory) -> Results:
    """A recipe that tries sets, and one that writes about documents."""
    folder = tmp_path_factory.mktemp("more") / "runs"
    tried_run(folder, "soar", 0, [(1, -1), (0, 2)], promoted=1)
    tried_run(folder, "soar", 1, [(0, 0), (-1, 0)], promoted=0)
    document_run(folder, "darc", 0, {"hard": 2, "medium": 4, "easy": 6})
    document_run(folder, "darc", 1, {"hard": 3, "medium": 3, "easy": 2})
    return read(ExperimentPlan(name="lab", seeds=(0, 1), recipes={"soar": {}, "darc": {}}), folder)


def test_certainty_is_a_mean_over_seeds_before_and_after(runs):
    results = read(plan(), runs)
    table = rows(results, "calibration")
    assert list(table) == [("held out", "before"), ("held out", "r_tuning")]
    assert table["held out", "before"]["accuracy"] == 1
    after = table["held out", "r_tuning"]
    assert (after["accuracy"], after["AP"], after["AP, confidence alone"], after["ECE"]) == (0.25, 0.875, 0.75, 0.125)
    assert (after["answer rate"], after["accuracy of these"], after["refused"]) == (1, 0.25, 0)
    accuracy = TABLES["calibration"].cells(results)["held out", "r_tuning"]["accuracy"]
    # 0 and 0.5: 12.7062 times 0.25 on either side.
    assert estimate(accuracy) == pytest.approx((0.25, 0.25 - 12.7062 / 4, 0.25 + 12.7062 / 4), rel=1e-5)
    # Of a quarter of two answers Wilson's interval is 2.7 to 80.2 %.
    assert difference(accuracy, accuracy) == pytest.approx((0, -0.7755, 0.7755), abs=1e-4)


def test_a_difference_that_is_the_same_on_a_few_seeds_decides_nothing_about_a_few_cases():
    these, those = ({seed: RunningMean(passed, 24) for seed, passed in enumerate(row)} for row in ([9, 12, 11], [10, 13, 12]))
    value, low, high = difference(these, those)
    assert value == pytest.approx(-1 / 24)
    assert low < -0.2
    assert high > 0.1


def test_a_mean_that_is_no_share_has_no_interval_over_cases():
    gain = {seed: RunningMean(-6.0, 12) for seed in range(3)}
    assert rate(gain)[0] == estimate(gain)[0] == -0.5
    assert all(isnan(bound) for bound in (*rate(gain)[1:], *estimate(gain)[1:]))


def test_a_run_that_has_learned_nothing_yet_has_only_the_row_before(tmp_path):
    with closing(open_log(tmp_path / "r_tuning-0" / "log.sqlite", create=True)) as log:
        example_run(log).run(recipe="r_tuning", seed=0).evaluate().calibrate(scores=[(True, 0.5, 0.9)])
    results = read(ExperimentPlan(name="lab", seeds=(0,), recipes={"r_tuning": {}}), tmp_path)
    assert [label for _, label in rows(results, "calibration")] == ["before"]


def test_labels_are_counted_by_window_and_by_what_questions_are_made_of(runs):
    results = read(plan(), runs)
    table = rows(results, "labels")
    assert list(table) == [("sqlm", window) for window in ("1 to 2", "3 to 4", "5 to 6", "7 to 8")]
    # Three labels and a tie in the first window, of which one seed has two labels and the other one.
    first = table["sqlm", "1 to 2"]
    assert (first["ties"], first["labels that are right"], first["agreement"]) == (0.25, pytest.approx(2 / 3), 0.5)
    assert table["sqlm", "3 to 4"]["labels that are right"] is None
    parts = rows(results, "labels-by-composition")
    assert parts["sqlm", "rest region"]["right, 1 rare"] == pytest.approx(2 / 3)
    assert parts["sqlm", "target region"]["right, 1 rare"] == 1
    assert parts["sqlm", "target region"]["right, 2 rare"] == 0
    assert parts["sqlm", "target region"]["right"] == 0.5
    # Both seeds have no right label: of 0 in 8 Wilson's bound is 32.4 %.
    alike = {seed: RunningMean(0, 8) for seed in (0, 1)}
    assert estimate(alike) == (0, 0, pytest.approx(0.3244, abs=1e-4))
    assert difference(alike, {0: RunningMean(0.5, 1), 1: RunningMean(0.5, 1)}) == (-0.5, -0.5, pytest.approx(-0.1756, abs=1e-4))
    assert composition("no statement of this world") is None


def test_trials_are_counted_by_window_and_promotions_have_wilsons_interval(more_runs):
    table = rows(more_runs, "trials")
    assert table["soar", "1"] == {"trials": 2, "passed before": 0.25, "passed after": 0.25, "gain": 0, "promotions": 0.5}
    # Of four goalposts each: 0 and 2 gained by one seed, -1 and 0 by the other.
    assert table["soar", "2"]["gain"] == pytest.approx(1 / 16)
    assert rows(more_runs, "promotions")["soar",]["trials that gained"] == 0.25
    text = page("lab", more_runs, plots_of(more_runs))
    # One of four: Wilson's interval, where Student's over two seeds would say nothing.
    assert "| `soar` | 2 | 4 | 1 | 25.0 % (4.6 to 69.9) | 8 |" in text
    assert "Of *promoted*, *trials that gained*, *trials that lost* the interval is Wilson's over all cases." in text
    assert text.index("## Trials") < text.index("(results/trial-gains.svg)") < text.index("## Costs")


def test_votes_with_and_without_a_document_are_of_the_same_questions_and_levels_are_compared_in_pairs(more_runs):
    table = rows(more_runs, "documents")
    assert list(table) == [("darc", level) for level in ("easy", "medium", "hard", "all")]
    assert table["darc", "easy"] == {
        "questions": 1, "right, with the document": 1, "right, without it": 0, "with - without": 1, "matching": 0.4,
    }  # fmt: skip
    assert table["darc", "all"]["matching"] == pytest.approx(2 / 6)
    # In one seed all three pairs are in order; in the other the easy one is behind both, which are equal.
    assert rows(more_runs, "levels")["darc", "1"]["in order"] == pytest.approx((3 + 0.5) / 6)
    # Answers that did not see the document vote on nothing.
    assert rows(more_runs, "labels")["darc", "1"]["agreement"] == 0.5


def cell(*names: str) -> dict[str, object]:
    return {"words": "it rises", "table": "calibration", "cell": names}


def filled(runs: Path, text: str, *predictions: Prediction) -> str:
    (runs.parent / "lab.md").write_text(text)
    write(plan(*predictions, document="lab.md"), runs, runs.parent, lambda line: None)
    return (runs.parent / "lab.md").read_text()


def marks(*names: str) -> str:
    return "\n".join(f"<!-- {name}: begin (made by `{COMMAND}`) -->\n<!-- {name}: end -->" for name in names)


def test_a_document_gets_what_stands_between_its_marks_and_the_plots_that_it_shows(runs):
    accuracy = ("held out", "r_tuning", "accuracy")
    predictions = (
        Prediction(**cell("held out", "before", "accuracy"), above=0.5),
        Prediction(**cell("held out", "before", "accuracy"), below=0.5),
        Prediction(**cell(*accuracy), above=("held out", "before", "accuracy")),
    )
    names = ("runs", "calibration", "labels", "pass-rates", "reliability", "teacher", "predictions")
    text = filled(runs, f"Typed by hand.\n{marks(*names)}\nTyped, too.", *predictions)
    assert text.startswith("Typed by hand.\n<!-- runs: begin")
    assert text.endswith("\n<!-- predictions: end -->\nTyped, too.")
    assert "| held out | before | 2 | 100.0 % | 87.5 % | 75.0 % |" in text
    assert "| held out | `r_tuning` | 2 | 25.0 % (0.0 to 100.0) |" in text
    assert "| `sqlm` | 3 to 4 | 2 | 0 | – |" in text
    assert "| `sqlm` | open questions |" in text
    assert "100.0 % against 50.0 %: +50.0 (+50.0 to +50.0) points" in text
    assert [line.split(" | ")[1] for line in text.splitlines() if "it rises" in line] == [
        "**HOLDS**",
        "**DOES NOT HOLD**",
        "**OPEN**",
    ]
    assert [file.name for file in (runs.parent / "lab").iterdir()] == ["reliability.svg"]
    assert filled(runs, text, *predictions) == text


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("nothing", (), "has no marks for plan lab; add lines such as <!-- NAME: begin"),
        (
            marks("labells"),
            (),
            "has marks for 'labells', which there is not (yet); the runs have runs, pass-rates, calibration",
        ),
        (
            marks("predictions"),
            ("r_tuning", "AP"),
            "names the cell r_tuning, AP, which the table calibration lacks; take one of",
        ),
    ],
)
def test_a_document_that_cannot_be_filled_is_one_sentence(runs, text, names, words):
    with pytest.raises(BadInput) as raised:
        filled(runs, text, *(Prediction(**cell(*names), above=0.5) for _ in names[:1]))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_document_that_is_not_there_is_named(runs):
    with pytest.raises(BadInput, match=r"Document .*gone.md of plan lab cannot be read"):
        write(plan(document="gone.md"), runs, runs.parent, lambda line: None)


def test_a_page_of_its_own_has_the_tables_too(runs):
    results = read(plan(), runs)
    text = page("lab", results, plots_of(results))
    assert text.index("## Certainty") < text.index("(results/reliability.svg)") < text.index("## Labels by vote")
    assert "(results/label-accuracy.svg)" in text
