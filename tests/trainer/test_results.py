"""Reports of experiments, from logs made by hand, with every number worked out here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pydantic import TypeAdapter

from events.facts.errors import BadInput
from events.facts.log import Log
from events.facts.types import (
    EvaluationFinished,
    RunFinished,
    RunStarted,
)
from events.facts.values import Digest, QuestionId, Sampling
from events.stores import open_log
from roles.questions.load import load_questions
from tests.support.example_runs import START_WEIGHTS, example_run, policy_updated
from tests.support.paths import GOLDEN, ROOT
from trainer.experiments.claims import clauses
from trainer.experiments.experiment_plan import ExperimentPlan, read_plan
from trainer.experiments.outcome import RunOutcome, run_outcome
from trainer.experiments.outcome_files import OutcomeFiles
from trainer.experiments.page import page, question_strata
from trainer.experiments.plots import Plot, PlotLine, draw
from trainer.experiments.report import read, write
from trainer.experiments.results import Results
from trainer.experiments.runs import runs_of
from trainer.experiments.sections import plain

Evaluations = Mapping[tuple[str, int], Sequence[int]]
"""Passed answers of 20 to questions q000, q001 ..., by set and iteration."""


def evaluation_finished(name: str, iteration: int, counts: Sequence[int], attempts: int = 20) -> EvaluationFinished:
    successes = {QuestionId(f"q{number:03}"): count for number, count in enumerate(counts)}
    how = Sampling(temperature=0.6)
    return EvaluationFinished(
        name=name, iteration=iteration, policy=START_WEIGHTS, sampling=how, attempts=attempts, successes=successes, pass_at={}
    )


def record_evaluations(
    log: Log,
    recipe: str,
    seed: int,
    exams: Evaluations,
    *,
    over: bool = True,
    attempts: int = 20,
    commit: str = "unknown",
    start: Digest = START_WEIGHTS,
    settings: Mapping[str, object] | None = None,
) -> None:
    """A run of which nothing but its evaluations is known."""
    policies = {"teacher": START_WEIGHTS, "student": start}
    config = {"recipe": recipe, "seed": seed, **(settings or {})}
    log.append("run", [RunStarted(config=config, versions={}, commit=commit, policies=policies)])
    for (name, iteration), counts in exams.items():
        log.append(f"evaluation/{name}/{iteration:05}", [evaluation_finished(name, iteration, counts, attempts)])
    if over:
        log.append("run", [RunFinished(iterations=0)])


class ExperimentFolder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes: dict[str, dict[str, object]] = {}
        self.seeds: set[int] = set()

    def run(self, recipe: str, seed: int, exams: Evaluations, **how: object) -> ExperimentFolder:
        self.recipes[recipe] = {}
        self.seeds.add(seed)
        (self.folder / f"{recipe}-{seed}").mkdir(parents=True)
        with closing(open_log(self.folder / f"{recipe}-{seed}" / "log.sqlite", create=True)) as log:
            record_evaluations(log, recipe, seed, exams, **how)
        return self

    @property
    def plan(self) -> ExperimentPlan:
        return ExperimentPlan(name="lab", seeds=tuple(sorted(self.seeds)), recipes=self.recipes)

    @property
    def results(self) -> Results:
        return read(self.plan, self.folder)

    @property
    def page(self) -> str:
        return page("lab", self.results, [])


@pytest.fixture
def lab(tmp_path):
    return ExperimentFolder(tmp_path / "runs" / "lab")


def test_the_checkpoint_is_the_best_on_validation_whatever_test_says(lab):
    """pass@20 of 20 answers is the share of questions with a success: 1/2, 2/2, 2/2, 1/2 on validation."""
    lab.run(
        "gasp",
        0,
        {
            ("validation", 0): [1, 0], ("test", 0): [20, 20], ("validation", 5): [1, 1], ("test", 5): [10, 0],
            ("validation", 10): [20, 20], ("test", 10): [20, 20], ("validation", 15): [20, 0], ("test", 15): [5, 5],
        },
    )  # fmt: skip
    results = lab.results
    assert results.outcomes("gasp")[0].chosen(20) == 5, "the earlier of equals, though pass@1 is better later"
    assert results.score("gasp", "chosen", 1).value == pytest.approx((10 + 0) / 40)
    assert results.score("gasp", "chosen", 20).value == 0.5
    assert results.score("gasp", "last", 1).value == pytest.approx((5 + 5) / 40)
    assert results.score("gasp", "last", 20).value == 1.0


def test_runs_of_a_seed_share_the_evaluation_of_the_weights_that_they_begin_with(lab):
    lab.run("base", 0, {("test", 0): [9, 9], ("validation", 0): [9, 9]})
    lab.run("gasp", 0, {("test", 5): [20, 20], ("validation", 5): [0, 0]})
    lab.run("azr", 0, {("test", 5): [20, 20]}, start=Digest("f" * 64))
    lab.run("gasp", 1, {("test", 5): [20, 20]})
    results = lab.results
    iterations = {(name, seed): [evaluated.result.iteration for evaluated in results.outcomes(name)[seed].evaluations["test"]]
                  for name, seed in (("gasp", 0), ("gasp", 1), ("azr", 0), ("base", 0))}  # fmt: skip
    assert iterations == {("gasp", 0): [0, 5], ("gasp", 1): [5], ("azr", 0): [5], ("base", 0): [0]}
    assert results.outcomes("gasp")[0].chosen(20) == 0
    assert results.outcomes("gasp")[0].evaluations["goalposts"] == []


def test_only_a_checkpoint_that_was_evaluated_on_test_can_be_chosen(lab):
    lab.run("gasp", 0, {("validation", 0): [1, 0], ("test", 0): [4, 4], ("validation", 5): [9, 9]})
    assert lab.results.outcomes("gasp")[0].chosen(20) == 0


def test_without_validation_nothing_is_chosen(lab):
    results = lab.run("gasp", 0, {("test", 0): [4, 4]}).results
    assert results.score("gasp", "chosen", 20) is None
    assert results.score("gasp", "last", 1).value == pytest.approx(0.2)


def test_evaluations_under_other_names_do_not_count(lab):
    lab.run("gasp", 0, {("test-1f3c9a", 5): [20, 20], ("test", 0): [2, 2]})
    assert lab.results.outcomes("gasp")[0].last == 0


def test_a_score_is_the_mean_over_seeds_each_at_its_own_checkpoint(lab):
    lab.run("gasp", 0, {("validation", 0): [1, 0], ("test", 0): [4, 0], ("validation", 5): [0, 0], ("test", 5): [20, 20]})
    lab.run("gasp", 1, {("validation", 0): [0, 0], ("test", 0): [20, 20], ("validation", 5): [1, 0], ("test", 5): [8, 4]})
    results = lab.results
    assert results.scores("gasp", "chosen", 1) == [pytest.approx([0.2, 0.0]), pytest.approx([0.4, 0.2])]
    assert results.score("gasp", "chosen", 1).value == pytest.approx((4 + 0 + 8 + 4) / 80)
    assert results.score("gasp", "chosen", 20).value == pytest.approx((1 + 0 + 1 + 1) / 4)


def test_fewer_answers_allow_a_smaller_k_only(lab):
    lab.run("gasp", 0, {("validation", 0): [4, 0], ("test", 0): [1, 0]}, attempts=4)
    lab.run("azr", 0, {("validation", 0): [4, 0], ("test", 0): [4, 4]})
    assert lab.results.k == 4
    assert lab.results.score("gasp", "chosen", 4).value == 0.5


def test_differences_are_paired_by_question(lab):
    """0.5 and 0.9 against 0.2 and 0.6: both are 0.3 above, whatever questions are drawn."""
    lab.run("gasp", 0, {("test", 0): [10, 18]}).run("azr", 0, {("test", 0): [4, 12]})
    assert lab.results.difference("gasp", "azr", "last", 1) == pytest.approx((0.3, 0.3, 0.3))
    assert lab.results.score("gasp", "last", 1) == pytest.approx((0.7, 0.5, 0.9))
    assert lab.results.difference("azr", "azr", "last", 1) is None
    assert lab.results.difference("gasp", "base", "last", 1) is None


def test_runs_with_other_questions_are_refused(lab):
    lab.run("gasp", 0, {("test", 0): [10, 18]}).run("azr", 0, {("test", 0): [4, 12, 7]})
    with pytest.raises(BadInput, match="evaluated on different test questions"):
        _ = lab.results


def test_curves_are_means_over_seeds_with_the_least_and_the_most(lab):
    for seed, (first, second) in enumerate([([2, 2], [8, 8]), ([4, 4], [4, 4])]):
        lab.run("gasp", seed, {("test", 0): first, ("test", 5): second})
    curve = lab.results.curve("gasp", "test", lambda evaluation: sum(evaluation.scores(1)) / 2)
    assert [point[1:] for point in curve] == [pytest.approx((0.15, 0.1, 0.2)), pytest.approx((0.3, 0.2, 0.4))]


def test_strata_are_told_by_the_structure_of_the_question():
    ids = sorted(question.id for question in load_questions("pocket", "test").questions)
    parts = question_strata(ids)
    assert sorted(place for places in parts.values() for place in places) == list(range(len(ids)))
    assert question_strata([*ids, QuestionId("x")]) == {}


Q = ("q000", "q001", "q002")
GOALPOSTS: Mapping[int, Evaluations] = {
    0: {("goalposts", 0): [0, 1, 0, 0], ("goalposts", 5): [3, 0, 0, 0]},
    1: {("goalposts", 0): [0, 0, 0, 0], ("goalposts", 5): [20, 0, 1, 0]},
}


def test_goalposts_are_counted_by_seed_and_together_at_the_last_checkpoint_and_at_any(lab):
    for seed, exams in GOALPOSTS.items():
        lab.run("gasp", seed, exams)
    results = lab.results
    assert {seed: sorted(solved) for seed, solved in results.solved("gasp", "last").items()} == {0: [Q[0]], 1: [Q[0], Q[2]]}
    assert {seed: sorted(solved) for seed, solved in results.solved("gasp", "any").items()} == {
        0: [Q[0], Q[1]],
        1: [Q[0], Q[2]],
    }
    assert results.union("gasp", "last") == {Q[0], Q[2]}
    assert results.union("gasp", "any") == {Q[0], Q[1], Q[2]}
    assert results.union_share("gasp", "any").value == 0.75
    assert results.attempts("gasp") == 2 * 2 * 20


def claim(
    lab: ExperimentFolder,
    gasp: int = 50,
    azr: int = 0,
    goalposts: Sequence[int] = (1, 0, 0, 0),
    rivals: Mapping[str, Sequence[int]] | None = None,
    over: Sequence[str] = ("gasp", "azr", "base", "rlvr"),
    evaluations: int = 1,
) -> list[bool | None]:
    """Which clauses hold after runs of one seed in which so many of 50 test questions are solved, always."""
    tested = {"gasp": [20] * gasp + [0] * (50 - gasp), "azr": [20] * azr + [0] * (50 - azr)}
    for recipe in ("gasp", "azr", "base", "rlvr"):
        solved = goalposts if recipe == "gasp" else (rivals or {}).get(recipe, [0] * len(goalposts))
        exams: dict[tuple[str, int], Sequence[int]] = {("validation", 0): [1], ("test", 0): tested.get(recipe, [0] * 50)}
        exams |= {("goalposts", number): solved for number in range(evaluations if recipe == "gasp" else 1)}
        lab.run(recipe, 0, exams, over=recipe in over)
    return [clause.holds for clause in clauses(lab.results)]


def test_every_clause_can_hold(lab):
    """50 of 50 against 0: Wilson's intervals are 0.93 to 1 and 0 to 0.07, and the difference is 1 whatever is drawn."""
    assert claim(lab) == [True] * 12


def test_every_clause_can_fail(lab):
    rivals = {recipe: [1, 1, 1, 1] for recipe in ("base", "azr", "rlvr")}
    assert claim(lab, gasp=0, azr=50, goalposts=(0, 0, 0, 0), rivals=rivals) == [False] * 12


@pytest.mark.parametrize(
    ("gasp", "holds"),
    [
        # 1 of 50 is 2.0 points, and is not drawn at all in (49/50)^50 = 36 % of the resamples.
        (26, [False, False, False]),
        # 2 of 50 are 4.0 points, and not drawn in 13 %.
        (27, [True, False, False]),
        # 8 of 50 are 16 points, not drawn in 0.02 %; but 50 % has an interval of about 14 points to either side.
        (33, [True, False, True]),
        # 22 of 50 are 44 points, with 6 points to the other side at 94 %.
        (47, [True, True, True]),
    ],
)
def test_the_margin_the_intervals_and_the_paired_difference_are_separate_clauses(lab, gasp, holds):
    assert claim(lab, gasp=gasp, azr=25)[:6] == holds * 2


@pytest.mark.parametrize(("count", "holds"), [(13, True), (14, False)])
def test_the_share_of_goalposts_must_exceed_the_papers(lab, count, holds):
    """11 of 146 are 7.53 %; 1 of 13 is 7.69 %, 1 of 14 is 7.14 %."""
    assert claim(lab, goalposts=[1] + [0] * (count - 1))[6:8] == [holds] * 2


@pytest.mark.parametrize(("count", "holds"), [(50, True), (49, False)])
def test_a_rival_near_zero_solves_two_per_cent(lab, count, holds):
    """1 of 50 is 2 %, 1 of 49 is 2.04 %."""
    assert claim(lab, goalposts=[1] * count, rivals={"azr": [1] + [0] * (count - 1)})[8:11] == [True, holds, True]


def test_with_fewer_samples_a_rival_can_fail_but_not_be_at_zero(lab):
    assert claim(lab, rivals={"azr": [1, 0, 0, 0]}, evaluations=2)[8:11] == [None, False, None]


def test_what_a_rival_solves_too_is_not_solved_alone(lab):
    assert claim(lab, goalposts=(1, 0), rivals={"rlvr": (1, 0)})[11] is False


@pytest.mark.parametrize(
    ("missing", "open_ones"), [("gasp", range(12)), ("azr", [0, 1, 2, 3, 4, 5, 9, 11]), ("rlvr", [10, 11]), ("base", [8, 11])]
)
def test_a_clause_about_a_run_that_is_not_over_is_open(lab, missing, open_ones):
    verdict = claim(lab, over=[recipe for recipe in ("gasp", "azr", "base", "rlvr") if recipe != missing])
    assert [place for place, holds in enumerate(verdict) if holds is None] == list(open_ones)


def test_costs_are_counted_by_hand(log):
    tale = example_run(log).run().goalpost().evaluate(attempts=20)
    tale.start(3).episode(lemma=5, lift=2, attempts=10).practice(attempts=8).fail().finish().update().evaluate(
        attempts=20
    ).end()
    outcome = run_outcome(log)
    assert outcome.finished
    costs = outcome.costs
    # Gap, lemma and lift 10 each, two times 4 answers to learn from, 8 of practice, 10 of the gap of the failed episode.
    assert (costs.student_samples, costs.teacher_samples) == (10 * 3 + 4 * 2 + 8 + 10, 2)
    assert (costs.iterations, costs.updates, costs.steps, costs.learned_tokens) == (1, 1, 1, 200)
    assert costs.evaluated_samples == 40
    played, evaluated_ = (
        sum(event.fact.generation.length for event in log.read(kinds=("attempts_made", "question_proposed")) if test(event))
        for test in (
            lambda event: not event.stream.startswith("evaluation"),
            lambda event: event.stream.startswith("evaluation"),
        )
    )
    assert (costs.played_tokens, costs.evaluated_tokens) == (played, evaluated_)
    assert [evaluation.samples for evaluation in outcome.evaluations["test"]] == [0, costs.student_samples]


def test_steps_of_trials_are_costs_once_whether_their_student_is_promoted_or_not(log):
    tale = example_run(log).run().start(1)
    for number in (1, 2):
        tale.learn_trial(tale.begin_trial(number), START_WEIGHTS)
    promoted = policy_updated(iteration=1, after=0, until=9, policy="student").model_copy(update={"set": 2})
    log.append("policy/student", [promoted, policy_updated(iteration=2, after=9, until=10, policy="student")])
    costs = run_outcome(log).costs
    assert (costs.updates, costs.steps, costs.learned_tokens) == (2, 3, 600)


def full(lab: ExperimentFolder, **how: object) -> ExperimentFolder:
    for recipe in ("gasp", "azr"):
        lab.run(recipe, 0, {("validation", 0): [1, 1], ("test", 0): [10, 18], ("goalposts", 0): [0, 3]}, **how)
    return lab


def test_the_page_says_the_numbers_and_the_commands(lab, tmp_path):
    write(full(lab).plan, lab.folder, tmp_path / "docs", lambda line: None)
    text = (tmp_path / "docs" / "results.md").read_text()
    # 0.5 and 0.9, whose resampled means are 0.5, 0.7 and 0.9.
    assert "| `gasp` | 1 | 0 | 70.0 % (50.0 to 90.0) | 100.0 % (34.2 to 100.0) | +0.0 (+0.0 to +0.0) |" in text
    assert "| `gasp` | 1 | 1: 50.0 % (9.5 to 90.5) | 1 | 1: 50.0 % (9.5 to 90.5) | 20 |" in text
    assert "python -m trainer.experiment configs/experiments/lab.toml --report" in text
    for image in ("results/test-pass-at-1.svg", "results/validation-pass-at-20.svg", "results/goalposts.svg"):
        assert f"]({image})" in text
        assert (tmp_path / "docs" / image).is_file()


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "experiments").glob("*.toml")), ids=lambda file: file.stem)
def test_a_plan_is_called_as_its_file_so_that_the_pages_commands_are_right(file):
    assert read_plan(file).name == file.stem


def test_equal_logs_give_equal_bytes_wherever_they_lie(lab, tmp_path):
    write(full(lab).plan, lab.folder, tmp_path / "one", lambda line: None)
    shutil.copytree(lab.folder, tmp_path / "elsewhere")
    write(lab.plan, tmp_path / "elsewhere", tmp_path / "two", lambda line: None)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def saved(lab: ExperimentFolder, folder: Path) -> OutcomeFiles:
    """The outcomes of all finished runs as files."""
    files = OutcomeFiles(lab.plan, folder)
    for run in runs_of(lab.plan, lab.folder):
        files.save(run)
    return files


def test_files_of_outcomes_are_reported_as_their_logs_are(lab, tmp_path):
    full(lab)
    files = saved(lab, tmp_path / "outcomes")
    assert page("lab", read(lab.plan, tmp_path / "elsewhere", files), []) == lab.page


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("log-schema-3*.sqlite")), ids=lambda file: file.stem)
def test_an_outcome_of_any_recipe_comes_back_from_a_file(file):
    with closing(open_log(file)) as log:
        outcome = run_outcome(log)
    adapter = TypeAdapter(RunOutcome)
    assert adapter.validate_json(adapter.dump_json(outcome)) == outcome


def test_a_file_of_an_outcome_has_no_path_of_its_machine(lab, tmp_path):
    settings = {"model": "/secret/weights", "documents": {"source": "/secret/texts.jsonl"}}
    lab.run("gasp", 0, {("test", 0): [1]}, settings=settings).recipes["gasp"] = settings
    saved(lab, tmp_path)
    assert "secret" not in (tmp_path / "gasp-0.json").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", r"gasp-0.json is not an outcome of this version \(started: .*\); remove it"),
        ("no json", r"gasp-0.json is not an outcome of this version"),
    ],
)
def test_a_file_that_is_no_outcome_is_one_sentence(lab, tmp_path, text, words):
    lab.run("gasp", 0, {("test", 0): [1]})
    (tmp_path / "gasp-0.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        OutcomeFiles(lab.plan, tmp_path).read(next(lab.plan.cells()))


def test_an_outcome_of_other_settings_is_refused_with_what_differs(lab, tmp_path):
    lab.run("gasp", 0, {("test", 0): [1]})
    saved(lab, tmp_path)
    other = lab.plan.model_copy(update={"settings": {"play": {"episodes": 4}}})
    with pytest.raises(BadInput, match=r"gasp-0.json is of a run with play.episodes = 16, and the plan says 4; put that back"):
        OutcomeFiles(other, tmp_path).read(next(other.cells()))


def test_what_is_missing_is_named_and_the_rest_is_reported(lab):
    full(lab, over=False).seeds.add(1)
    lab.recipes["rlvr"] = {}
    text = lab.page
    assert "**Not complete.**" in text
    assert "`gasp` 0: 0 iterations; `gasp` 1: not begun; `azr` 0: 0 iterations" in text
    assert "70.0 % (50.0 to 90.0)" in text
    assert "HOLD" not in text


def test_an_experiment_without_a_run_is_a_page_too(lab, tmp_path):
    lab.recipes, lab.seeds = {"gasp": {}}, {0}
    write(lab.plan, lab.folder, tmp_path, lambda line: None)
    assert "No run has begun." in (tmp_path / "results.md").read_text()
    assert not (tmp_path / "results").exists()


def test_a_folder_with_another_run_is_refused(lab):
    full(lab)
    (lab.folder / "gasp-0").rename(lab.folder / "rlvr-0")
    lab.recipes["rlvr"] = {}
    with pytest.raises(BadInput, match=r"rlvr-0 holds another run than lab wants"):
        _ = lab.page


def test_text_of_a_log_takes_no_effect_in_the_page(lab):
    text = full(lab, commit="a|b`<b>[x](y)\n").page
    assert "a\\|b\\`\\<b\\>\\[x" in text
    assert "<b>" not in text
    assert plain("\x1b[31m*_#") == "\N{REPLACEMENT CHARACTER}\\[31m\\*\\_\\#"


def test_text_takes_no_effect_in_a_plot(tmp_path):
    name = "$x^2$ <script>&"
    panels = {name: [PlotLine(name, [(0, 1), (1, 2)], band=[(0, 2), (1, 3)])]}
    draw(tmp_path, Plot("plot.svg", name, name, name, panels))
    tree = ElementTree.parse(tmp_path / "plot.svg")
    assert [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")].count(name) == 4
    assert "{http://www.w3.org/2000/svg}script" not in {element.tag for element in tree.iter()}


def test_a_plot_of_twelve_recipes_is_small(tmp_path):
    points = [(float(x), x % 7 / 7) for x in range(50)]
    lines = [
        PlotLine("the recipe", points, band=[(y - 0.1, y + 0.1) for _, y in points]),
        PlotLine("azr", points, "--", grey=True),
    ]
    draw(tmp_path, Plot("plot.svg", "t", "x", "y", {f"recipe {number}": lines for number in range(12)}))
    assert (tmp_path / "plot.svg").stat().st_size < 150_000
