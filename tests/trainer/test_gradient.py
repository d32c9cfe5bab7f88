"""Every credit with every loss moves the weights as its formula says, written out here in float64, token by token.

The formulas know nothing of TRL, of micro-batches, padding, shared prompts or left-out completions; what is tested uses
all of these.
"""

import copy
import dataclasses
import itertools
import random
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

from events.facts.values import NoSignalReason
from events.pure.advantages import ADVANTAGE_ESTIMATORS
from graph.recipes.gasp import Gasp
from graph.settings.config import LearnSettings
from tests.support.paths import ROOT
from tests.support.tiny_model import VOCABULARY, logprobs, tiny_weights
from tests.trainer.test_micro_batches import sample
from trainer.data.micro_batches import micro_batches_of
from trainer.data.replay import RolloutGroup
from trainer.data.step_batches import step_batches
from trainer.learn import checkpoint
from trainer.learn.loss import LOSSES, PolicyLoss

BATCH_TOKENS = 64
LONGEST = 12
NOISE = 0.1
"""Standard deviation, in nats, of how far the logged logprobs are from the model's own."""
CLIP = 0.03
"""Small against the noise, so that many ratios are clipped."""
TERMS = {
    "kl": {"kl": 0.3},
    "entropy": {"entropy": 0.2},
    "truncate": {"importance": "truncate", "importance_cap": 1.05},
    "mask": {"importance": "mask", "importance_cap": 1.05},
    "clip_high": {"clip_high": 0.05},
    "delta": {"clip_high": 0.05, "delta": 1.1},
    "filter": {"filter_silent": True},
    "all": {"kl": 0.3, "entropy": 0.2, "importance": "truncate", "importance_cap": 1.05, "filter_silent": True},
}
CASES = [
    (loss, terms) for loss, terms in itertools.product(LOSSES, TERMS) if not (terms == "delta" and loss in ("cispo", "sapo"))
]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> SimpleNamespace:
    """A policy, a reference, and rewarded groups; the policy's own float64 logprobs and entropies, with their graph."""
    import torch

    store = tmp_path_factory.mktemp("weights")
    weights = checkpoint.load(store, tiny_weights(store, width=16, layers=1))
    reference = checkpoint.load(store, tiny_weights(store, seed=1, width=16, layers=1)).model
    groups = make_samples(weights.model)
    exact, other = copy.deepcopy(weights.model).double(), copy.deepcopy(reference).double()
    scored = [[score(exact, rollout) for rollout in group.rollouts] for group in groups]
    with torch.no_grad():
        pulled = [[score(other, rollout)[0] for rollout in group.rollouts] for group in groups]
    return SimpleNamespace(
        weights=weights, reference=reference, groups=groups, scored=scored, pulled=pulled, parameters=list(exact.parameters())
    )


def make_samples(model) -> list[RolloutGroup]:
    """Ragged groups of one phase; some all right, all wrong, alone or partly empty, and none sampled by the model as it is.

    Every third token of each other completion was given, so nothing may be learned from it.
    """
    rng = random.Random(1)
    samples = []
    rows = [(1, -0.5, 1), (1, 1), (-0.5, -0.5, -0.5), (1,), (-1, 1, -0.5, -0.5), (-1, 1)]
    for number, rewards in enumerate(rows):
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 9))]
        made = []
        for index, reward in enumerate(rewards):
            ids = [rng.randrange(VOCABULARY) for _ in range(0 if (number, index) == (4, 3) else rng.randint(1, LONGEST))]
            heat = (1.0, 0.7)[number % 2]
            old = [float(value) + rng.gauss(0, NOISE) for value in logprobs(model, prompt, ids, heat)] if ids else []
            sampled = np.array([index % 2 == 0 or token % 3 != 1 for token in range(len(ids))], np.bool_)
            arrays = {
                "prompt_ids": np.array(prompt, np.int32),
                "ids": np.array(ids, np.int32),
                "logprobs": np.array(old, np.float32) * sampled,
                "sampled": sampled,
            }
            task = ("induction", "deduction")[number % 2]
            made.append(dataclasses.replace(sample(temperature=heat), **arrays, reward=reward, task=task))
        # Two pairs of groups have a prompt in common, and two groups have none that is known.
        prompt_blob = ("a", "", "a", "b", "", "b")[number]
        samples.append(RolloutGroup("solve", "student", made[0].task, rewards, number, tuple(made), prompt=prompt_blob))
    return samples


def score(model, rollout):
    """Log-probability of each token, and entropy of each distribution."""
    import torch

    text = [*rollout.prompt_ids.tolist(), *rollout.ids.tolist()]
    logits = model(torch.tensor([text])).logits[0, len(rollout.prompt_ids) - 1 : -1] / rollout.temperature
    every = logits.log_softmax(-1)
    chosen = every.gather(-1, torch.tensor(rollout.ids.astype(np.int64))[:, None])[:, 0]
    return chosen, -(every.exp() * every).sum(-1)


def advantages(credit: str, groups: list[RolloutGroup]) -> list[np.ndarray]:
    rows = [np.array(group.rewards, np.float64) for group in groups]
    everything = np.concatenate(rows)
    within = [row - row.mean() for row in rows]
    match credit:
        case "recipe" | "trr_plus_plus" | "trr_plus_plus_and_grpo":
            pools = {task: np.concatenate([r for g, r in zip(groups, rows, strict=True) if g.task == task])
                     for task in {group.task for group in groups}}  # fmt: skip
            return [(r - pools[g.task].mean()) / pools[g.task].std() for g, r in zip(groups, rows, strict=True)]
        case "grpo":
            return [row / (row.std() or 1) for row in within]
        case "grpo_by_prompt" | "dr_grpo_by_prompt":
            names = [group.prompt or number for number, group in enumerate(groups)]
            pools = [np.concatenate([r for other, r in zip(names, rows, strict=True) if other == name]) for name in names]
            scale = [(credit == "grpo_by_prompt" and pool.std()) or 1 for pool in pools]
            return [(row - pool.mean()) / by for row, pool, by in zip(rows, pools, scale, strict=True)]
        case "dr_grpo":
            return within
        case "rloo" | "rloo_by_set":
            others = [[np.delete(row, n).mean() if len(row) > 1 else row[0] for n in range(len(row))] for row in rows]
            return [row - np.array(other) for row, other in zip(rows, others, strict=True)]
        case "reinforce_plus_plus":
            return [(row - everything.mean()) / everything.std() for row in rows]
        case "reinforce_plus_plus_baseline":
            return [row / np.concatenate(within).std() for row in within]
    raise AssertionError(credit)


def surrogate(settings: LearnSettings, new, old, advantage: float, weight):
    """Loss of each token of a completion, without the terms; and the ratio that the KL term is corrected by."""
    import torch

    loss = settings.loss
    low, high = 1 - settings.clip, 1 + (settings.clip_high or settings.clip)
    ratio = (new - old).exp()
    if loss == "gspo":
        ratio = (new - old).mean().exp().expand_as(new)
    if loss == "cispo":
        return -ratio.clamp(max=high).detach() * advantage * new * weight, ratio
    if loss == "sapo":
        heat = 1.0 if advantage > 0 else 1.05
        return -4 / heat * (heat * (ratio - 1)).sigmoid() * advantage * weight, ratio
    capped = ratio if settings.delta is None else ratio.clamp(max=settings.delta)
    return -torch.minimum(capped * advantage, ratio.clamp(low, high) * advantage) * weight, ratio


def formula(world: SimpleNamespace, settings: LearnSettings):
    import torch

    credits = advantages(settings.credit, world.groups)
    kept = [n for n, row in enumerate(credits) if np.abs(row).max() > 1e-9 or not settings.filter_silent]
    means, sums, entropies = [], [], []
    for n in kept:
        for rollout, advantage, scores, other in zip(
            world.groups[n].rollouts, credits[n], world.scored[n], world.pulled[n], strict=True
        ):
            new, entropy, pull = (values[rollout.sampled] for values in (*scores, other))
            sampled = torch.tensor(rollout.logprobs[rollout.sampled].astype(np.float64))
            on_policy = settings.importance == "none"
            weight = torch.ones_like(new) if on_policy else (new.detach() - sampled).exp()
            if settings.importance == "mask":
                weight = torch.where(weight > settings.importance_cap, 0.0, weight)
            if settings.importance == "truncate":
                weight = weight.clamp(max=settings.importance_cap)
            tokens, ratio = surrogate(settings, new, sampled if on_policy else new.detach(), float(advantage), weight)
            tokens = tokens + settings.kl * ratio * ((pull - new).exp() - (pull - new) - 1)
            sums.append(tokens.sum())
            means.append(tokens.mean() if len(tokens) else tokens.sum())
            entropies.extend(entropy)
    match settings.loss:
        case "dapo" | "cispo":
            total = sum(sums) / len(entropies)
        case "grpo" | "gspo" | "sapo":
            total = sum(means) / len(means)
        case "dr_grpo":
            total = sum(sums) / len(sums) / LONGEST
    return total - settings.entropy * sum(entropies) / len(entropies)


def flat(gradients) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for tensor in gradients])


@pytest.fixture(scope="module")
def computed(world, tmp_path_factory):
    """Loss and gradient as the trainer computes them, in several micro-batches unless told otherwise."""
    folder: Path = tmp_path_factory.mktemp("trl")

    @cache
    def loss(settings: LearnSettings) -> tuple[PolicyLoss, list]:
        model = copy.deepcopy(world.weights.model)
        reference = copy.deepcopy(world.reference)
        made = PolicyLoss(model, world.weights.tokenizer, settings, seed=0, folder=folder, longest=LONGEST, reference=reference)
        return made, list(model.parameters())

    def compute(settings: LearnSettings, batch_tokens: int = BATCH_TOKENS) -> tuple[float, np.ndarray]:
        made, parameters = loss(settings.model_copy(update={"credit": "recipe"}))
        [batch] = step_batches(world.groups, Gasp(), settings, ("student",))
        cut = micro_batches_of(batch.rollouts, batch_tokens)
        assert (len(cut) > 2) == (batch_tokens < 100)
        total = 0.0
        for micro in cut:
            share, _ = made(micro, batch)
            share.backward()
            total += share.item()
        gradient = flat([parameter.grad for parameter in parameters])
        for parameter in parameters:
            parameter.grad = None
        return total, gradient

    return compute


def same(world: SimpleNamespace, computed, settings: LearnSettings) -> None:
    import torch

    expected = formula(world, settings)
    wanted = flat(torch.autograd.grad(expected, world.parameters, retain_graph=True))
    total, gradient = computed(settings)
    close((total, gradient), (expected.item(), wanted))


def close(computed_pair: tuple[float, np.ndarray], wanted: tuple[float, np.ndarray]) -> None:
    assert computed_pair[0] == pytest.approx(wanted[0], abs=1e-6)
    assert np.linalg.norm(computed_pair[1] - wanted[1]) < 1e-6 * np.linalg.norm(wanted[1])


@pytest.mark.parametrize(("credit", "loss"), list(itertools.product(ADVANTAGE_ESTIMATORS, LOSSES)))
def test_every_credit_with_every_loss_is_its_formula(world, computed, credit, loss) -> None:
    same(world, computed, LearnSettings(credit=credit, loss=loss, clip=CLIP))


@pytest.mark.parametrize(("loss", "terms"), CASES)
def test_every_loss_with_every_term_is_its_formula(world, computed, loss, terms) -> None:
    same(world, computed, LearnSettings(credit="grpo", loss=loss, clip=CLIP, **TERMS[terms]))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_does_not_depend_on_how_a_step_batch_is_cut(computed, loss) -> None:
    settings = LearnSettings(loss=loss, clip=CLIP, **TERMS["all"])
    close(computed(settings, 10**6), computed(settings, 32))


def test_every_name_of_a_setting_is_tested_and_has_its_row_in_the_document() -> None:
    names = {field: get_args(LearnSettings.model_fields[field].annotation) for field in ("credit", "loss", "importance")}
    assert set(names["credit"]) == {"recipe", *ADVANTAGE_ESTIMATORS}
    assert set(names["loss"]) == set(LOSSES)
    assert set(names["importance"]) == {"none", "truncate", "mask"}
    document = (ROOT / "docs" / "algorithms.md").read_text()
    reasons = set(get_args(NoSignalReason))
    assert set(re.findall(r"^\| `(\w+)` \|", document, re.MULTILINE)) - reasons == {*ADVANTAGE_ESTIMATORS, *LOSSES}
    assert all(f"`{reason}`" in document for reason in reasons)
