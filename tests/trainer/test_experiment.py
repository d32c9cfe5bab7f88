"""Experiments: plans in all their wrong forms, and real tiny runs that are stopped, killed and gone on with."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from events.cli.app import holds_log, open_run
from events.facts.errors import BadInput
from events.projections.run_summary import RunSummary, fold
from graph.recipes import RECIPES
from graph.setup.folder import create_run, run_lock
from graph.setup.run_inputs import read_inputs
from roles.serving.processes import descendants
from tests.support.documents import examples
from tests.support.forked_commands import ForkingPopen
from tests.support.paths import ROOT
from tests.support.processes import PATIENCE_S, all_end, running, start_command, wait_until
from trainer.experiment import SMOKE
from trainer.experiments.experiment_plan import ExperimentPlan, read_plan
from trainer.experiments.progress import describe_run, live_table
from trainer.experiments.runs import runs_of

READY = ROOT / "configs" / "experiments" / "pocket.toml"
PLAN = 'name = "x"\nseeds = [0, 1]\n[settings.play]\niterations = 2\nepisodes = 3\n[recipes.gasp]\n[recipes.rlvr]\n'
PREDICTION = '[[predictions]]\nwords = "it rises"\ntable = "labels"\ncell = ["sqlm", "ties"]\n'


def plan(**changes: object) -> ExperimentPlan:
    return ExperimentPlan(**{**tomllib.loads(PLAN), **changes})


def test_every_recipe_has_its_first_seed_before_any_has_its_second():
    assert [tuple(cell) for cell in plan().cells()] == [
        ("gasp", 0, "gasp-0"),
        ("rlvr", 0, "rlvr-0"),
        ("gasp", 1, "gasp-1"),
        ("rlvr", 1, "rlvr-1"),
    ]


def test_a_recipe_adds_to_the_settings_of_all_and_may_be_a_variant_of_another():
    recipes = {"gasp": {}, "slow": {"recipe": "gasp", "play": {"episodes": 5}, "learn": {"learning_rate": 1e-5}}}
    plain, slow = (plan(recipes=recipes).config(name, 7) for name in recipes)
    assert (plain.recipe, plain.seed, plain.play.iterations, plain.play.episodes) == ("gasp", 7, 2, 3)
    assert (slow.recipe, slow.seed, slow.play.iterations, slow.play.episodes) == ("gasp", 7, 2, 5)
    assert slow.learn.learning_rate == 1e-5


def test_a_setting_of_all_runs_can_be_changed_on_the_command_line(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    changed = read_plan(tmp_path / "plan.toml", ["play.episodes=4", "model=elsewhere"]).config("rlvr", 1)
    assert (changed.recipe, changed.seed, changed.model) == ("rlvr", 1, "elsewhere")
    assert (changed.play.iterations, changed.play.episodes) == (2, 4)
    with pytest.raises(BadInput, match=r"settings.seed is not for all runs"):
        read_plan(tmp_path / "plan.toml", ["seed=3"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "x"', 'name = "../x"', "'name' cannot be '../x'"),
        ('name = "x"', "", "'name' is missing"),
        ("[0, 1]", "[]", "'seeds' cannot be []"),
        ("[0, 1]", "[0, 0]", "a seed is there twice"),
        ("[0, 1]", "[-1]", "'seeds.0' cannot be -1"),
        ("seeds", "seed = 1\nseeds", "no 'seed' in a plan, which has name, seeds, settings, recipes"),
        ("iterations = 2", "iteration = 2", "recipe gasp: There is no setting 'play.iteration'; did you mean"),
        ("iterations = 2", "iterations = -2", "recipe gasp: Setting 'play.iterations' cannot be -2"),
        ("[settings.play]", '[settings]\nrecipe = "gasp"\n[settings.play]', "settings.recipe is not for all runs"),
        ("[settings.play]", "[settings]\nseed = 1\n[settings.play]", "settings.seed is not for all runs"),
        ("[recipes.rlvr]", "[recipes.rlvr]\nseed = 1", "a recipe has no seed of its own"),
        ("[recipes.rlvr]", "[recipes.rlvr]\nplay = 1", "recipe rlvr: Setting 'play' cannot be 1"),
        ("recipes.rlvr", "recipes.rlvrr", "recipe rlvrr: Setting 'recipe' cannot be 'rlvrr'"),
        ("recipes.rlvr", 'recipes."a/b"', "'recipes.a/b.[key]' cannot be 'a/b'"),
        ("[recipes.gasp]\n[recipes.rlvr]", "[recipes]", "'recipes' cannot be {}"),
        ("[0, 1]", "[0, 1", "is not valid TOML"),
        ("[settings.play]", 'document = "../x.md"\n[settings.play]', "'document' cannot be '../x.md'"),
        ("[recipes.gasp]", f"{PREDICTION}above = 1\nbelow = 2\n[recipes.gasp]", "set either above or below"),
        ("[recipes.gasp]", f"{PREDICTION.replace('labels', 'tables')}above = 1\n[recipes.gasp]", "cannot be 'tables'"),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, old, new, words):
    file = tmp_path / "plan.toml"
    assert old in PLAN
    file.write_text(PLAN.replace(old, new, 1))
    with pytest.raises(BadInput) as raised:
        read_plan(file)
    assert words in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give the FILE.toml of a plan, or --smoke"),
        (["--smoke", READY], "Give the FILE.toml of a plan, or --smoke"),
        (["--smoke", "--set", "model=x"], "--set with a plan only"),
        (["/nowhere/plan.toml"], "Plan /nowhere/plan.toml cannot be read"),
        ([READY, "--runs", "/dev/null"], "Folder /dev/null/pocket cannot be made"),
        ([READY, "--report", "--runs", "/nowhere"], "There are no runs in /nowhere/pocket"),
    ],
)
def test_a_wrong_command_is_one_sentence(arguments, words):
    process = start_command("trainer.experiment", *arguments, fresh=False)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_the_ready_plan_compares_all_recipes_on_equal_samples():
    ready = read_plan(READY)
    configs = [ready.config(recipe, seed) for recipe, seed, _ in ready.cells()]
    # Labels by vote (docs/labels.md, docs/documents.md), given texts (docs/certainty.md) and trials (docs/trials.md) are others.
    others = {name for name in RECIPES if any(system in name for system in ("sqlm", "soar", "darc")) or name == "hard_only"}
    others |= {"r_tuning", "r_tuning_r", "r_tuning_u", "sft_vanilla"}
    assert {config.recipe for config in configs} == {*RECIPES} - others
    assert len(ready.seeds) >= 3
    assert len({(config.evaluate.attempts, config.validation, config.goalposts, config.test) for config in configs}) == 1
    assert all(config.validation != "none" for config in configs)
    learning = [config for config in configs if config.recipe != "base"]
    assert len({(config.play.samples, config.evaluate.every_samples) for config in learning}) == 1
    evaluated = 1 + learning[0].play.samples // learning[0].evaluate.every_samples
    assert {1 + config.play.iterations for config in configs if config.recipe == "base"} == {evaluated}


def test_the_plan_for_a_real_model_gives_every_recipe_the_same_samples_and_evaluations():
    real = read_plan(READY.with_name("mbpp.toml"))
    configs = [real.config(recipe, seed) for recipe, seed, _ in real.cells()]
    assert {config.recipe for config in configs} == {"gasp", "gasp_real", "azr", "rlvr", "base"}
    learning = [config for config in configs if config.recipe != "base"]
    assert len({(config.play.samples, config.evaluate, config.learn, config.play.student) for config in learning}) == 1
    assert not learning[0].evaluate.first


def test_a_plan_on_paper_names_every_recipe_and_starts_nothing(tmp_path):
    out, err = start_command("trainer.experiment", READY, "--dry-run", "--runs", tmp_path, fresh=False).communicate(timeout=60)
    rows = [row.split() for row in out.splitlines()]
    ready = read_plan(READY)
    assert [row[0] for row in rows[1:-1]] == list(ready.recipes)
    assert rows[-1][:2] == [str(len(list(ready.cells()))), "runs,"]
    assert (err, list(tmp_path.iterdir())) == ("", [])


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folder of an experiment whose first run was begun."""
    config = plan().config("gasp", 0)
    create_run(tmp_path / "x" / "gasp-0", config, read_inputs(config), learns=False).close()
    return tmp_path / "x"


def test_a_run_that_was_begun_otherwise_is_refused_with_what_differs(begun):
    assert [run.state for run in runs_of(plan(), begun)] == ["waiting"] * 4
    with pytest.raises(BadInput, match=r"gasp-0 was begun with play.episodes = 3, and the plan says 4; put that back"):
        runs_of(plan(settings={"play": {"iterations": 2, "episodes": 4}}), begun)


def test_a_run_may_have_been_begun_on_another_machine(begun):
    machine = {"threads": 3, "learn": {"batch_tokens": 1024}}
    assert runs_of(plan(settings=tomllib.loads(PLAN)["settings"] | machine), begun)[0].state == "waiting"


def test_a_run_that_another_process_plays_is_not_started(begun):
    with run_lock(begun / "gasp-0"):
        assert [run.state for run in runs_of(plan(), begun)] == ["busy", "waiting", "waiting", "waiting"]


def test_a_line_and_the_screen_say_how_far_of_the_budget_a_run_is(begun):
    runs = runs_of(plan(settings={"play": {"iterations": 2, "episodes": 3}}), begun)
    assert describe_run(runs[0]) == "gasp seed 0: waiting, iteration 0 of 2, 0 samples of the student"
    budget = runs_of(plan(name="y", settings={"play": {"samples": 16000}}), begun.parent / "y")
    assert describe_run(budget[3]) == "rlvr seed 1: waiting, iteration 0 of at most 40, 0 of 16,000 samples of the student"
    console = Console(file=io.StringIO(), width=120)
    console.print(live_table(budget))
    assert console.file.getvalue().startswith("4 runs: 4 waiting\n")
    assert "rlvr    1     waiting  iteration 0 of at most 40  0 of 16,000" in console.file.getvalue()


@pytest.mark.docker
@pytest.mark.slow
def test_three_recipes_play_two_iterations_as_runs_of_their_own_and_are_reported(smoked):
    folder, out = smoked
    for recipe, seed, run in SMOKE.cells():
        assert f"{recipe} seed {seed}: finished, iteration 2 of 2" in out
        with closing(open_run(str(folder / run))) as log:
            assert log.verify() is None
            summary = fold(RunSummary(), log.read())
        assert summary.started.config["recipe"] == recipe
        assert [update.iteration for update in summary.updates] == [1, 2]
        assert {evaluation.name for evaluation in summary.evaluations} == {"goalposts", "validation", "test"}
        assert [evaluation.iteration for evaluation in summary.evaluations if evaluation.name == "test"] == [0, 1, 2]
        assert summary.samples.after[2] > summary.samples.after[1] > 0
    assert list((folder / "report").iterdir())


@pytest.mark.docker
@pytest.mark.slow
def test_a_finished_experiment_is_not_played_again(smoked):
    folder, _ = smoked
    heads = {run: (folder / run / "log.sqlite").read_bytes() for _, _, run in SMOKE.cells()}
    process = start_command("trainer.experiment", "--smoke", "--runs", folder.parent, fresh=False)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "playing" not in out
    assert heads == {run: (folder / run / "log.sqlite").read_bytes() for run in heads}


@pytest.mark.docker
@pytest.mark.slow
def test_an_experiment_that_was_played_elsewhere_is_reported_from_its_outcomes(smoked, tmp_path):
    def smoke(runs: Path) -> str:
        process = start_command("trainer.experiment", "--smoke", "--runs", runs, "--outcomes", tmp_path / "kept", fresh=False)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out + err

    assert "0 of 3 runs have their outcome in" in smoke(smoked[0].parent)
    assert "3 of 3 runs have their outcome in" in smoke(tmp_path / "elsewhere")
    pages = [folder / "report" / "results.md" for folder in (smoked[0], tmp_path / "elsewhere" / "smoke")]
    assert pages[0].read_text() == pages[1].read_text()
    assert not list((tmp_path / "elsewhere").glob("*/*/log.sqlite"))


@pytest.mark.docker
@pytest.mark.slow
def test_commands_of_the_readme_work_on_a_real_run(smoked, tmp_path):
    """Those that need a sandbox or a model; tests/docs/test_commands.py runs those that only read."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(smoked[0] / "gasp-0", tmp_path / "runs" / "run-001")
    few = {"evaluate": ["--attempts", "2", "--questions", "2"], "train": ["--dry-run"], "resume": ["--plain"], "reverify": []}
    shown = {words[0]: words for words in examples(ROOT / "README.md") if words[0] in few}
    assert shown.keys() == few.keys()
    for name, words in shown.items():
        command = [sys.executable, "-m", "trainer.gasp", *words, *few[name]]
        process = ForkingPopen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate()
        assert (process.returncode, bool(out)) == (0, True), err


TINY = """
name = "tiny"
seeds = [0]
[settings]
test = "none"
[settings.play]
samples = 12
practice = 2
practice_attempts = 2
[settings.evaluate]
questions = 1
attempts = 1
[recipes.rlvr]
[recipes.broken]
recipe = "rlvr"
goalposts = "nowhere.jsonl"
"""


def iterations(run: Path) -> int:
    if not holds_log(run):
        return 0
    with closing(open_run(str(run))) as log:
        return sum(1 for _ in log.read("run", kinds=("iteration_finished",)))


@pytest.mark.docker
@pytest.mark.slow
def test_an_experiment_goes_on_after_ctrl_c_and_kill_9_of_itself_and_of_a_run(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    arguments = (tmp_path / "tiny.toml", "--runs", tmp_path)
    folder, run = tmp_path / "tiny", tmp_path / "tiny" / "rlvr-0"

    def begin() -> subprocess.Popen[str]:
        return start_command("trainer.experiment", *arguments, fresh=False)

    stopped = begin()
    wait_until(lambda: holds_log(run) and running(stopped.pid, "trainer.run"), stopped)
    left = descendants(stopped.pid)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=PATIENCE_S)
    assert (stopped.returncode, "repeat the command" in err, "Traceback" in err) == (130, True, False)
    assert all_end(left, 5)

    killed = begin()
    wait_until(lambda: running(killed.pid, "trainer.run"), killed)
    left = descendants(killed.pid)
    killed.kill()
    killed.communicate()

    # At once, while what the killed one left still ends.
    bereft = begin()
    wait_until(lambda: iterations(run) >= 1, bereft)
    (player,) = running(bereft.pid, "graph.run")
    os.kill(player, signal.SIGKILL)
    _, err = bereft.communicate(timeout=PATIENCE_S)
    assert bereft.returncode == 1
    assert "rlvr-0 failed with signal 9 (Killed): " in err
    assert str(folder / "rlvr-0.out") in err
    assert all_end(left)

    last = begin()
    wait_until(lambda: running(last.pid, "trainer.run"), last)
    left = descendants(last.pid)
    out, err = last.communicate(timeout=PATIENCE_S)
    assert "rlvr seed 0: finished, iteration 3 of at most 40, 12 of 12 samples of the student" in out
    assert "broken-0 failed with exit code 2: " in err
    assert "error: 1 of 2 runs failed" in err
    with closing(open_run(str(run))) as log:
        assert log.verify() is None
        summary = fold(RunSummary(), log.read())
    assert [update.iteration for update in summary.updates] == [1, 2, 3]
    assert (summary.finished, summary.samples.total) == (True, 12)
    assert all_end(left)
