"""From rewards to micro-batches."""

import dataclasses
import random

import numpy as np
import pytest

from events.facts.values import Digest, Phase, Role
from events.pure.advantages import ADVANTAGE_ESTIMATORS
from graph.recipes.gasp import Gasp
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import LearnSettings
from trainer.data.micro_batches import micro_batches_of
from trainer.data.replay import Rollout, RolloutGroup
from trainer.data.step_batches import step_batches

ROLES: tuple[Role, ...] = ("teacher", "student")

GASP, GASP_REAL = Gasp(), Gasp(plan=EpisodePlan(real_data=True))


def sample(
    prompt: int = 3,
    length: int = 4,
    *,
    role: Role = "student",
    phase: Phase = "solve",
    reward: float = 0.0,
    temperature: float = 1,
    advantage: float = 0.0,
) -> Rollout:
    ids = np.arange(length, dtype=np.int32) + 2
    return Rollout(
        "episode/1",
        1,
        0,
        np.arange(prompt, dtype=np.int32),
        ids,
        -ids.astype(np.float32),
        np.ones(length, np.bool_),
        role,
        phase,
        "induction" if role == "student" else "easy",
        reward,
        Digest("0" * 64),
        temperature,
        advantage,
    )


def group(*rewards: float, role: Role = "student", phase: Phase = "solve", length: int = 4) -> RolloutGroup:
    rollouts = tuple(sample(role=role, phase=phase, reward=reward, length=length) for reward in rewards)
    return RolloutGroup(phase, role, rollouts[0].task, rewards, 1, rollouts)


def test_advantages_are_the_recipes() -> None:
    groups = [group(1.0, -0.5, -0.5), group(1.0, 1.0, -1.0)]
    recipe = GASP
    expected = ADVANTAGE_ESTIMATORS[recipe.advantage_estimator](groups)
    [batch] = step_batches(groups, recipe, LearnSettings(), ROLES)
    assert [rollout.advantage for rollout in batch.rollouts] == [number for row in expected for number in row]


def test_phases_are_learned_in_their_order() -> None:
    groups = [group(1, 0, phase=phase) for phase in ("practice", "solve", "lift", "lemma", "solve")]
    batches = step_batches(groups, GASP_REAL, LearnSettings(), ROLES)
    assert [batch.phase for batch in batches] == ["lemma", "lift", "solve", "practice"]
    assert [batch.groups for batch in batches] == [1, 1, 2, 1]


def test_silent_groups_are_counted_and_averaged_over_but_not_computed() -> None:
    groups = [group(1, 1, phase="practice"), group(1, 0, phase="practice")]
    [batch] = step_batches(groups, GASP_REAL, LearnSettings(), ROLES)
    assert (batch.groups, batch.silent_groups, len(batch.rollouts)) == (2, 1, 2)
    assert batch.tokens == 16
    assert batch.reward == 0.75


def test_teacher_scale_scales_the_teacher_and_zero_silences_it() -> None:
    groups = [group(1, 0, role="teacher", phase="lemma"), group(1, 0)]
    for scale in (2.0, 0.0):
        teacher, student = step_batches(groups, GASP, LearnSettings(teacher_scale=scale), ROLES)
        assert [rollout.advantage for rollout in teacher.rollouts] == [scale, -scale] * (scale > 0)
        assert [rollout.advantage for rollout in student.rollouts] == [1.0, -1.0]


def test_a_policy_learns_from_its_own_roles_only() -> None:
    groups = [group(1, 0, role="teacher", phase="lemma"), group(1, 0)]
    assert [batch.phase for batch in step_batches(groups, GASP, LearnSettings(), ("teacher",))] == ["lemma"]
    assert [batch.phase for batch in step_batches(groups, GASP, LearnSettings(), ("student",))] == ["solve"]
    every = [LearnSettings(teaches_every=every) for every in (2, 0)]
    phases = [[batch.phase for batch in step_batches(groups, GASP, learn, ROLES, n)] for learn in every for n in (1, 2)]
    assert phases == [["solve"], ["lemma", "solve"], ["solve"], ["solve"]]


def test_a_phase_is_learned_in_steps_of_so_many_groups_and_texts_need_no_advantage() -> None:
    groups = [*(group(0.0, phase="text", length=n) for n in range(1, 6)), group(1, 0)]
    batches = step_batches(groups, GASP, LearnSettings(groups_per_step=2), ROLES)
    assert [(batch.phase, batch.groups, batch.tokens) for batch in batches] == [
        ("solve", 1, 8), ("text", 1, 1), ("text", 2, 5), ("text", 2, 9)
    ]  # fmt: skip
    assert not any(batch.silent_groups for batch in batches)
    whole = step_batches(groups, GASP, LearnSettings(), ROLES)
    assert [(batch.phase, batch.learned_tokens) for batch in whole] == [("solve", 8), ("text", 15)]
    assert [batch.phase for batch in step_batches(groups, GASP, LearnSettings(), ("teacher",))] == []


def test_an_empty_completion_carries_no_signal() -> None:
    [batch] = step_batches([group(1, 0, length=0)], GASP, LearnSettings(), ROLES)
    assert (batch.rollouts, batch.silent_groups) == ((), 1)


def test_completions_without_signal_are_counted_by_reason() -> None:
    credit = LearnSettings(credit="grpo")
    rows = [group(1, 1), group(-0.5, -0.5, -0.5), group(0, 0), group(1), group(1, 0, -1), group(1, 0, length=0)]
    [batch] = step_batches(rows, GASP, credit, ROLES)
    assert batch.silent == {"all_right": 2, "all_wrong": 5, "alone": 1, "average": 1, "empty": 2}
    assert (batch.groups, batch.silent_groups, len(batch.rollouts)) == (6, 5, 2)
    [counted] = step_batches([group(1), group(1)], GASP, credit, ROLES)
    assert counted.silent == {"all_right": 2}
    [untaught] = step_batches([group(1, 0, role="teacher")], GASP, LearnSettings(teacher_scale=0), ROLES)
    assert untaught.silent == {"untaught": 2}


def test_filtered_groups_leave_the_average() -> None:
    rows = [group(1, 1), group(1, 0, -1), group(0, 0)]
    kept, left = (step_batches(rows, GASP, LearnSettings(credit="grpo", filter_silent=on), ROLES)[0] for on in (False, True))
    assert (kept.completions, kept.tokens, left.completions, left.tokens) == (7, 28, 3, 12)
    assert (kept.rollouts, kept.silent, kept.reward) == (left.rollouts, left.silent, left.reward)


@pytest.mark.parametrize("term", ["kl", "entropy"])
def test_completions_without_signal_are_computed_where_a_term_pulls_them(term) -> None:
    rows = [group(1, 1), group(1, 0), group(1, 0, role="teacher"), group(1, 0, length=0)]
    [batch] = step_batches(rows, GASP, LearnSettings(credit="grpo", teacher_scale=0, **{term: 0.1}), ROLES)
    assert [rollout.advantage for rollout in batch.rollouts] == [0, 0, 1, -1]
    assert batch.silent == {"all_right": 2, "untaught": 2, "empty": 2}


def many(seed: int = 0, count: int = 60) -> list[Rollout]:
    rng = random.Random(seed)
    prompts = [rng.randint(1, 40) for _ in range(9)]
    return [
        sample(rng.choice(prompts), rng.randint(1, 50), temperature=rng.choice([0.7, 1.0]), advantage=float(n + 1))
        for n in range(count)
    ]


def test_nothing_is_cut_lost_or_doubled() -> None:
    rollouts = many()
    seen = []
    for batch in micro_batches_of(rollouts, 512):
        for row in range(len(batch.ids)):
            length = batch.mask[row].sum()
            prompt = batch.prompts[batch.prompt[row], : batch.lengths[batch.prompt[row]]]
            assert not batch.mask[row, length:].any()
            assert not batch.logprobs[row, length:].any()
            seen.append((prompt.tolist(), batch.ids[row, :length].tolist(), float(batch.advantages[row]), batch.temperature))
            np.testing.assert_array_equal(batch.logprobs[row, :length], -batch.ids[row, :length])
    wanted = [
        (rollout.prompt_ids.tolist(), rollout.ids.tolist(), rollout.advantage, rollout.temperature) for rollout in rollouts
    ]
    assert sorted(seen) == sorted(wanted)


def test_batches_stay_within_the_budget_and_one_temperature() -> None:
    for budget in (128, 512, 4096):
        for batch in micro_batches_of(many(), budget):
            assert batch.prompts.size + batch.ids.size <= budget or len(batch.ids) == 1
    assert len(micro_batches_of(many(), 10**9)) == 2


def test_a_completion_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = micro_batches_of([sample(3, 700, advantage=1.0), sample(3, 5, advantage=1.0)], 512)
    assert [batch.tokens for batch in batches] == [5, 700]


def test_a_batch_ends_where_padding_it_would_cost_more_than_another() -> None:
    few, short, long = ([sample(length=length, advantage=1.0)] * count for length, count in ((10, 9), (10, 300), (30, 20)))
    assert [len(batch.ids) for batch in micro_batches_of([*long, *short], 16384)] == [300, 20]
    assert [len(batch.ids) for batch in micro_batches_of([*long, *few], 16384)] == [29]


def test_a_prompt_is_read_once_for_its_group() -> None:
    [batch] = micro_batches_of([sample(30, 4, advantage=1.0)] * 8 + [sample(20, 4, advantage=1.0)], 4096)
    assert batch.prompts.shape == (2, 30)
    assert batch.lengths.tolist() == [30, 20]


def test_equal_completions_give_equal_batches() -> None:
    for batch, other in zip(micro_batches_of(many(), 512), micro_batches_of(many(), 512), strict=True):
        for field in dataclasses.fields(batch):
            np.testing.assert_array_equal(getattr(batch, field.name), getattr(other, field.name))


def test_no_completions_make_no_batches() -> None:
    assert micro_batches_of([], 512) == []


def test_prompts_that_are_not_shared_count_with_every_completion() -> None:
    rng = random.Random(2)
    rollouts = [sample(prompt=rng.randint(1, 40), length=rng.randint(1, 60), advantage=1.0) for _ in range(60)]
    rollouts.append(sample(prompt=300, length=300, advantage=1.0))
    cut = micro_batches_of(rollouts, 512, shared=False)
    totals = [batch.lengths[batch.prompt] + batch.mask.sum(1) for batch in cut]
    assert sum(len(total) for total in totals) == len(rollouts)
    assert all(len(total) * total.max() <= 512 for total in totals[:-1])
    assert totals[-1].tolist() == [600]
    # Rows of like length: little is padding.
    assert sum(len(total) * total.max() for total in totals) < 1.3 * sum(total.sum() for total in totals)
