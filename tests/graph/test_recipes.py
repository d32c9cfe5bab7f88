from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from itertools import chain
from math import isfinite
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.facts.errors import BadInput, GaspError
from events.facts.values import LEVELS, Verdict
from events.pure.advantages import ADVANTAGE_ESTIMATORS, RewardGroup, dr_grpo, grpo, trr_plus_plus
from graph.play.given_texts import SurveyedAnswers, certain_questions
from graph.recipes import RECIPES
from graph.recipes.azr import Azr
from graph.recipes.darc import Darc
from graph.recipes.gasp import Gasp
from graph.recipes.r_tuning import Supervised
from graph.recipes.r_tuning_r import REFUSALS
from graph.recipes.recipe import EpisodePlan, GivenTexts, Survey, Trials
from graph.recipes.rewards import RewardSettings
from graph.recipes.soar import EPISODE_PLAN as SOAR_PLAN
from graph.recipes.soar import SETTINGS as SOAR_SETTINGS
from graph.recipes.soar import Soar
from graph.recipes.sqlm import Sqlm
from graph.settings.config import Config
from graph.settings.configure import configure
from graph.setup.run_inputs import read_inputs
from roles.questions.load import load_questions
from roles.questions.question_set import save_questions
from tests.support.paths import ROOT

LEMMA = [-0.5, -0.5, -0.5, 0.418, 0.815, 1.0, 0.815, 0.418, -0.5, -0.5, -0.5]
MEDIUM = [-0.5, 0.077, 0.625, 1.0, 0.698, 0.254, -0.5, -0.5, -0.5, -0.5, -0.5]
LIFT = [-0.5, 1.0, 0.693, 0.312, 0.104, 0.025, -0.5, -0.5, -0.5, -0.5, -0.5]


def one_step(a, b):
    """A step rewarded with R(p; a, b) on the band of lifts."""
    step = {"easy_curve": (a, b), "hard_curve": (a, b), "easy_band": (1, 5), "hard_band": (1, 5)}
    return Gasp(plan=EpisodePlan(guided=("easy",)), **step)


@pytest.mark.parametrize(("seat", "paper"), [("easy", LEMMA), ("hard", LIFT)])
def test_teacher_rewards_are_the_papers_on_the_grid_of_ten(seat, paper):
    assert [round(Gasp().teacher_reward(seat, n, 10), 3) for n in range(11)] == paper


def test_bands_are_integer_bands_and_name_the_side():
    places = {seat: [Gasp().band(seat, n, 10) for n in range(11)] for seat in ("easy", "hard")}
    assert places["easy"] == ["too_hard"] * 3 + ["in_band"] * 5 + ["too_easy"] * 3
    assert places["hard"] == ["too_hard"] * 1 + ["in_band"] * 5 + ["too_easy"] * 5


def test_a_band_edge_does_not_fall_off_by_float_error():
    assert Gasp().band("easy", 21, 30) == "in_band"
    assert Gasp().band("easy", 9, 30) == "in_band"


def test_what_cannot_be_asked_costs_more_than_what_was_asked_before():
    assert Gasp().rejection_reward("malformed") == -1.0
    assert Gasp().rejection_reward("degenerate") == -1.0
    assert Gasp().rejection_reward("not_novel") == -0.5


def test_the_student_is_rewarded_for_passing_only():
    rewards = [
        Gasp().student_reward(Verdict(outcome=o, passed=0, total=1), "induction") for o in ("passed", "time_limit", "malformed")
    ]
    assert rewards == [1.0, -0.5, -1.0]


VOTED = EpisodePlan(guided=(), topics=True, labels="vote", axes=("function",), rejection_sampling=False)
VOTING = {"play.public_pairs": 0, "play.tasks": ("induction",), "learn.teaches_every": 5, "learn.kl": 0.001}
LEARNING = EpisodePlan(guided=(), axes=("function",))
LEARNED = {
    "play.iterations": 2, "play.practice": 100_000, "learn.groups_per_step": 4, "evaluate.certainty": True,
    "evaluate.attempts": 1, "evaluate.sampling.temperature": 0.0, "evaluate.sampling.max_tokens": 96,
}  # fmt: skip


def staged(survey, texts):
    """One iteration of answers, then given texts."""
    return Supervised(replace(LEARNING, survey=survey, iterations=1, then=replace(LEARNING, texts=texts)), LEARNED)


def decoupled(order):
    """Documents are written about and labelled, then a pool is written in this order, then it is played."""
    writes = replace(LEARNING, documents=True, rejection_sampling=False, student_trains_on=())
    plays = replace(LEARNING, plays_pool=True, labels="informed")
    return Darc(
        replace(writes, labels="informed", iterations=20, then=replace(writes, pools=order, iterations=1, then=plays)),
        DECOUPLED,
    )


DECOUPLED = {
    "model": "pocket3", "prompts": "pocket3", "policies": "separate", "play.episodes": 24, "play.public_pairs": 0,
    "play.tasks": ("induction",), "verify.ties": "first", "learn.loss": "dr_grpo",
}  # fmt: skip
UNTAUGHT = VOTING | {"learn.teaches_every": 0}
SETTINGS = {
    "gasp": Gasp(),
    "gasp_real": Gasp(plan=EpisodePlan(real_data=True)),
    "one_step_medium": one_step(0.3, 5),
    "one_step_hard": one_step(0.1, 1),
    "no_rejection_sampling": Gasp(plan=EpisodePlan(rejection_sampling=False)),
    "no_io_axis": Gasp(plan=EpisodePlan(axes=("function",))),
    "lemma_only": Gasp(plan=EpisodePlan(guided=("easy",))),
    "lift_only": Gasp(plan=EpisodePlan(student_trains_on=("hard",))),
    "goalpost_shown_to_lift": Gasp(plan=EpisodePlan(hard_seat_sees_goalpost=True)),
    "azr": Azr(plan=EpisodePlan(guided=(), references=6, seeds=256, axes=("function",), rejection_sampling=False)),
    "rlvr": Gasp(RewardSettings(wrong=0, malformed=0), EpisodePlan(guided=(), real_data=True)),
    "base": Gasp(plan=EpisodePlan(learns=False)),
    "sqlm": Sqlm(plan=VOTED),
    "sqlm_format": Sqlm(plan=VOTED, settings=UNTAUGHT, form_alone=True),
    "sqlm_frozen": Sqlm(plan=VOTED, settings=UNTAUGHT),
    "sqlm_truth": Sqlm(plan=replace(VOTED, labels="truth")),
    "r_tuning": staged(Survey(), GivenTexts(certain="passed")),
    "r_tuning_r": staged(Survey(), GivenTexts(certain="passed", refusals=REFUSALS)),
    "r_tuning_u": staged(Survey(10, 0.7), GivenTexts(certain="agreeing")),
    "darc": decoupled("by_level"),
    "darc_shuffled": decoupled("shuffled"),
    "sft_vanilla": Supervised(replace(LEARNING, texts=GivenTexts()), LEARNED | {"play.iterations": 1}),
    "soar": Soar(),
    "soar_intrinsic": Soar(plan=replace(SOAR_PLAN, trials=Trials(reward_gain=False))),
    "soar_base_t": Soar(settings={**SOAR_SETTINGS, "learn.teaches_every": 0}),
    "soar_null": Soar(
        plan=EpisodePlan(guided=(), real_data=True, trials=Trials()),
        settings={**SOAR_SETTINGS, "play.practice": 64, "play.practice_attempts": 8},
    ),
    "hard_only": Soar(
        plan=EpisodePlan(guided=(), real_data=True),
        settings={"practice": "goalposts", "play.practice_attempts": 32, "learn.groups_per_step": 8, "learn.kl": 0.001},
    ),
}
"""What each name means with nothing else set."""


@pytest.mark.parametrize("name", RECIPES)
def test_the_name_is_the_algorithm(name):
    assert Config(recipe=name).algorithm() == SETTINGS[name]


@pytest.mark.parametrize(("name", "paper"), [("one_step_medium", MEDIUM), ("one_step_hard", LIFT)])
def test_a_single_step_is_rewarded_as_the_paper_says_on_the_grid_of_ten(name, paper):
    recipe = Config(recipe=name).algorithm()
    assert [round(recipe.teacher_reward("easy", n, 10), 3) for n in range(11)] == paper
    assert [recipe.band("easy", n, 10) == "in_band" for n in range(11)] == [1 <= n <= 5 for n in range(11)]


def test_a_question_about_a_document_earns_how_near_its_share_of_matches_is_to_the_target_of_its_level():
    recipe = Config(recipe="darc").algorithm()
    rewards = {level: [recipe.teacher_reward("open", n, 10, level) for n in (0, 2, 5, 8, 10)] for level in LEVELS}
    assert rewards["easy"] == pytest.approx([-0.1, 0.4, 0.7, 1.0, 0.8])
    assert rewards["medium"] == pytest.approx([-0.1, 0.7, 1.0, 0.7, 0.5])
    assert rewards["hard"] == pytest.approx([-0.1, 1.0, 0.7, 0.4, 0.2])
    assert {recipe.rejection_reward(reason) for reason in ("malformed", "copied", "ungrounded")} == {-1.0}


def test_how_long_the_teacher_learns_alone_is_a_setting_of_recipes_that_write_about_documents():
    assert Config(recipe="darc", documents={"iterations": 3}).algorithm().plan.iterations == 3
    assert Config(recipe="sqlm", documents={"iterations": 3}).algorithm() == SETTINGS["sqlm"]


def test_an_unguided_proposal_earns_the_share_of_failures_unless_all_or_none_fail():
    azr = Azr()
    assert [azr.teacher_reward("open", n, 10) for n in (0, 1, 5, 9, 10)] == [-0.5, 0.9, 0.5, pytest.approx(0.1), -0.5]
    assert azr.rejection_reward("broken") == -1.0


def test_a_voted_question_earns_one_if_some_and_not_all_agree_and_a_proposal_that_is_none_is_masked():
    rates = [Sqlm().teacher_reward("open", n, 4) for n in range(5)]
    assert rates == [0, 0, 1, 1, 0]
    assert Sqlm(RewardSettings(agreeing=1)).teacher_reward("open", 1, 4) == 1
    assert Sqlm().rejection_reward("malformed") is None
    verdicts = [Verdict(outcome=outcome, passed=0, total=1) for outcome in ("passed", "wrong_answer", "malformed")]
    assert [Sqlm().student_reward(verdict, "induction") for verdict in verdicts] == [1, 0, 0]
    assert [Sqlm(form_alone=True).student_reward(verdict, "induction") for verdict in verdicts] == [1, 1, 0]


def test_settings_that_a_recipe_names_hold_where_nothing_else_is_set():
    config = configure(None, ["recipe=sqlm", "learn.kl=0.5", "play.episodes=3"])
    assert (config.play.public_pairs, config.play.tasks, config.play.episodes) == (0, ("induction",), 3)
    assert (config.learn.teaches_every, config.learn.kl) == (5, 0.5)
    assert Config.recorded(config.model_dump(mode="json")) == config
    assert Config().learn.teaches_every == 1


def test_a_plan_changes_with_the_iteration_and_so_do_settings_inside_groups():
    plan = Config(recipe="r_tuning").algorithm().plan
    assert [plan.at(n) == stage for n, stage in ((1, plan), (2, plan.then), (9, plan.then))] == [True] * 3
    assert plan.stages == (plan, plan.then)
    assert EpisodePlan().at(7) == EpisodePlan()
    found = configure(None, ["recipe=r_tuning", "evaluate.sampling.max_tokens=512"])
    assert (found.evaluate.sampling.temperature, found.evaluate.sampling.max_tokens) == (0.0, 512)
    # What is said behind an answer needs room; there is no room needed where nothing is.
    assert found.window == found.max_prompt_tokens + 512 + 64
    assert Config(recipe="sft_vanilla", evaluate={"certainty": False}).window == Config().window


def surveyed(**answers):
    return {question: SurveyedAnswers(*answer) for question, answer in answers.items()}


def test_questions_are_certain_by_the_first_answer_or_by_how_much_answers_agree():
    answers = surveyed(a=(True, 1.0), b=(False, 0.0), c=(True, 0.5), d=(False, 0.5), e=(False, 2.0))
    assert certain_questions(GivenTexts("passed"), answers) == {"a": True, "b": False, "c": True, "d": False, "e": False}
    assert certain_questions(GivenTexts("agreeing"), answers) == {"b": True, "c": True, "d": False, "a": False, "e": False}
    for passed, words in ((True, "All of the 2 .* harder"), (False, "None of the 2 .* easier")):
        with pytest.raises(GaspError, match=words):
            certain_questions(GivenTexts("passed"), surveyed(a=(passed, 0.0), b=(passed, 0.0)))


def test_training_questions_without_a_program_are_left_out_and_refused_where_no_other_is_there(tmp_path, capsys):
    whole, other = load_questions("pocket", "train").questions[:2]
    bare = whole.model_copy(update={"program": None})
    for name, questions in (("bare", [bare]), ("both", [bare, other])):
        save_questions(tmp_path / f"{name}.jsonl", questions)
    with pytest.raises(
        BadInput, match=r"r_tuning_u teaches the programs of training questions, and none of .*bare\.jsonl' has one"
    ):
        read_inputs(Config(recipe="r_tuning_u", practice=str(tmp_path / "bare.jsonl")))
    inputs = read_inputs(Config(recipe="r_tuning_u", practice=str(tmp_path / "both.jsonl")))
    assert inputs.practice == (other,)
    assert "practice: 1 of 2 questions have no program to learn; they are left out." in capsys.readouterr().err
    assert "certainty" in inputs.digests()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_it_comes_from_and_how_we_differ(name):
    module = import_module(f"graph.recipes.{name}").__doc__
    assert re.search(r"arXiv \d{4}\.\d{5}", module)
    assert "\nHow we differ:" in module


def test_the_table_of_recipes_is_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE)
    assert [(name, what) for name, what, _, _ in rows] == [(name, made.__doc__) for name, made in RECIPES.items()]


def test_what_the_paper_leaves_open_is_a_setting():
    tuned = Config(rewards=RewardSettings(repeated=-0.25, wrong=0.0, malformed=-2.0)).algorithm()
    assert tuned.rejection_reward("not_novel") == -0.25
    verdicts = [Verdict(outcome=outcome, passed=0, total=1) for outcome in ("wrong_answer", "malformed")]
    assert [tuned.student_reward(verdict, "induction") for verdict in verdicts] == [0.0, -2.0]


numbers = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=8).map(tuple)
groups = st.lists(
    st.builds(
        RewardGroup,
        phase=st.sampled_from(["lemma", "lift", "solve", "practice"]),
        role=st.sampled_from(["teacher", "student"]),
        task=st.sampled_from(["easy", "hard", "induction", "deduction"]),
        rewards=numbers,
    ),
    max_size=12,
)


@given(groups)
def test_trr_pp_standardises_over_role_and_task(batch):
    advantages = trr_plus_plus(batch)
    assert [len(a) for a in advantages] == [len(g.rewards) for g in batch]
    for key in {(g.role, g.task) for g in batch}:
        pool = [a for g, row in zip(batch, advantages, strict=True) if (g.role, g.task) == key for a in row]
        assert fmean(pool) == pytest.approx(0, abs=1e-6)
        assert pstdev(pool) == pytest.approx(1, abs=1e-6) or not any(pool)


@given(groups)
def test_grpo_standardises_within_each_group(batch):
    for group, row in zip(batch, grpo(batch), strict=True):
        assert fmean(row) == pytest.approx(0, abs=1e-6)
        assert (len(set(group.rewards)) == 1) == (not any(row))


@given(groups)
def test_gasp_credits_practice_by_question_and_play_by_task_in_the_given_order(batch):
    advantages = ADVANTAGE_ESTIMATORS[Gasp().advantage_estimator](batch)
    practice = [i for i, g in enumerate(batch) if g.phase == "practice"]
    play = [i for i, g in enumerate(batch) if g.phase != "practice"]
    assert [advantages[i] for i in practice] == grpo([batch[i] for i in practice])
    assert [advantages[i] for i in play] == trr_plus_plus([batch[i] for i in play])


@pytest.mark.parametrize("name", ADVANTAGE_ESTIMATORS)
@given(groups)
def test_credit_is_one_finite_number_a_completion_and_nothing_where_all_are_rewarded_alike(name, batch):
    advantages = ADVANTAGE_ESTIMATORS[name](batch)
    assert [len(row) for row in advantages] == [len(group.rewards) for group in batch]
    assert all(map(isfinite, chain(*advantages)))
    alike = [replace(group, rewards=(0.1,) * len(group.rewards)) for group in batch]
    assert not any(chain(*ADVANTAGE_ESTIMATORS[name](alike)))


@pytest.mark.parametrize("name", ADVANTAGE_ESTIMATORS)
def test_a_group_of_one_is_silent_where_credit_is_within_groups(name):
    batch = [RewardGroup("lemma", "teacher", "easy", (reward,)) for reward in (1.0, -0.5)]
    assert any(chain(*ADVANTAGE_ESTIMATORS[name](batch))) == (
        name in ("reinforce_plus_plus", "trr_plus_plus", "trr_plus_plus_and_grpo")
    )


@pytest.mark.parametrize("within", [grpo, dr_grpo])
@given(batch=groups, prompts=st.lists(st.sampled_from(["", "p", "q"]), min_size=12, max_size=12))
def test_by_prompt_an_estimator_pools_role_and_prompt_and_each_group_alone_where_no_prompt_is_known(within, batch, prompts):
    batch = [replace(group, prompt=prompt) for group, prompt in zip(batch, prompts, strict=False)]
    advantages = ADVANTAGE_ESTIMATORS[f"{within.__name__}_by_prompt"](batch)
    for role in ("teacher", "student"):
        for prompt in "pq":
            same = [n for n, group in enumerate(batch) if (group.role, group.prompt) == (role, prompt)]
            pool = [reward for n in same for reward in batch[n].rewards]
            (whole,) = within([replace(batch[same[0]], rewards=tuple(pool))]) if same else ((),)
            assert [advantage for n in same for advantage in advantages[n]] == list(whole)
    alone = [n for n, group in enumerate(batch) if not group.prompt]
    assert [advantages[n] for n in alone] == within([batch[n] for n in alone])


def test_all_proposals_of_a_set_have_its_advantage_and_answers_that_of_their_group():
    earned = {1: 0.25, 2: 0.0, 3: -0.125}
    batch = [RewardGroup("open", "teacher", "induction", (earned[n],), set=n) for n in (1, 1, 2, 3, 3)]
    batch.insert(2, RewardGroup("solve", "student", "induction", (1.0, 0.0, 0.0), set=1))
    rows = ADVANTAGE_ESTIMATORS["rloo_by_set"](batch)
    assert rows.pop(2) == (1.0, -0.5, -0.5)
    assert [row[0] for row in rows] == pytest.approx([0.3125, 0.3125, -0.0625, -0.25, -0.25])
    # One set alone has nothing to be compared with.
    assert ADVANTAGE_ESTIMATORS["rloo_by_set"](batch[:2]) == [(0.0,), (0.0,)]


def test_a_question_without_a_gain_earns_what_fails_of_it_unless_all_does():
    assert [Soar().teacher_reward("open", n, 4) for n in range(5)] == [0, 0.75, 0.5, 0.25, 0]
    assert Soar().rejection_reward("broken") is None


@given(groups)
def test_rloo_compares_each_completion_with_the_others(batch):
    for group, row in zip(batch, ADVANTAGE_ESTIMATORS["rloo"](batch), strict=True):
        for n, advantage in enumerate(row):
            others = group.rewards[:n] + group.rewards[n + 1 :]
            assert advantage == pytest.approx(group.rewards[n] - fmean(others) if others else 0, abs=1e-9)
