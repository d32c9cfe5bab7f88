"""What the loss reports, and that a step moves what it should; its formulas are in test_trainer_gradient."""

import copy
import dataclasses
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from events.facts.errors import TrainerError
from events.facts.values import OptimizerStep
from graph.settings.config import LearnSettings
from tests.support.tiny_model import VOCABULARY, logprobs, tiny_weights
from tests.trainer.test_micro_batches import sample
from trainer.data.micro_batches import micro_batches_of
from trainer.data.replay import Rollout
from trainer.data.step_batches import StepBatch
from trainer.learn import checkpoint
from trainer.learn.importance import EFFECTIVE_SAMPLE_SHARE, KL_K1, KL_K3, MISMATCH_MAX, MISMATCH_MEAN, RATIO_MEAN
from trainer.learn.loss import LOSSES, PolicyLoss
from trainer.learn.step import Adam, take_step


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    store = tmp_path_factory.mktemp("weights")
    return checkpoint.load(store, tiny_weights(store))


@pytest.fixture
def model(weights):
    """A fresh copy; TRL patches the model that it is given."""
    return copy.deepcopy(weights.model)


def policy_loss(model, weights, tmp_path: Path, reference=None, **learn) -> PolicyLoss:
    settings = LearnSettings(**learn)
    return PolicyLoss(model, weights.tokenizer, settings, seed=0, folder=tmp_path, longest=30, reference=reference)


def make_samples(model, *, groups: int = 5, count: int = 6, noise: float = 0.3, temperature: float = 1.0) -> list[Rollout]:
    """Random completions of the model's own, their logprobs off by some noise, so that ratios are clipped."""
    rng = random.Random(1)
    samples = []
    for _ in range(groups):
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 20))]
        for _ in range(count):
            ids = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 30))]
            old = logprobs(model, prompt, ids, temperature).numpy() + [rng.gauss(0, noise) for _ in ids]
            plain = sample(temperature=temperature)
            arrays = {"prompt_ids": np.array(prompt, np.int32), "ids": np.array(ids, np.int32)}
            arrays |= {"logprobs": old.astype(np.float32), "sampled": np.ones(len(ids), np.bool_)}
            samples.append(dataclasses.replace(plain, **arrays, advantage=rng.gauss(0, 1)))
    return samples


def batch_of(rollouts: list[Rollout]) -> StepBatch:
    tokens = sum(rollout.tokens for rollout in rollouts)
    return StepBatch("solve", tuple(rollouts), 5, 0, silent={}, completions=len(rollouts), tokens=tokens, reward=0.0)


def step(loss: PolicyLoss, model, rollouts: list[Rollout], batch_tokens: int = 4096, rate: float = 1e-12) -> OptimizerStep:
    return take_step(batch_of(rollouts), loss, Adam(model, LearnSettings(learning_rate=rate), None), batch_tokens)


def test_the_loss_of_given_texts_is_their_mean_negative_log_likelihood(model, weights, tmp_path) -> None:
    texts = []
    for number, rollout in enumerate(make_samples(model, groups=4, count=1)):
        learned = np.arange(len(rollout.ids)) % 3 != number % 3
        texts.append(dataclasses.replace(rollout, phase="text", sampled=learned, logprobs=np.zeros_like(rollout.logprobs)))
    double = copy.deepcopy(model).double()
    pairs = [(text, logprobs(double, text.prompt_ids.tolist(), text.ids.tolist(), 1.0).numpy()) for text in texts]
    expected = -sum(float(row[text.sampled].sum()) for text, row in pairs) / sum(text.tokens for text in texts)
    batch = dataclasses.replace(batch_of(texts), phase="text")
    for budget in (4096, 32):
        # KL, entropy bonus and clipping are terms of RL, and change nothing here.
        loss = policy_loss(copy.deepcopy(model), weights, tmp_path, reference=copy.deepcopy(model), kl=1.0, entropy=1.0)
        micro = micro_batches_of(texts, budget)
        assert len(micro) == (1 if budget == 4096 else 4)
        assert sum(float(loss(each, batch)[0].detach()) for each in micro) == pytest.approx(expected, abs=1e-6)
        metrics = take_step(batch, loss, Adam(loss._model, LearnSettings(learning_rate=1e-12), None), budget).metrics
        assert metrics["loss"] == pytest.approx(expected, abs=1e-6)
        assert metrics.keys() == {"loss", "entropy", "grad_norm", "learning_rate"}


def test_each_temperature_scores_under_its_own_distribution(model, weights, tmp_path) -> None:
    both = [*make_samples(model, noise=0), *make_samples(model, noise=0, temperature=0.5)]
    loss = policy_loss(model, weights, tmp_path)
    scores = [
        loss(batch, batch_of(both))[1][MISMATCH_MEAN]
        for batch in [*micro_batches_of(both, 4096), *micro_batches_of(both, 4096)]
    ]
    assert len(scores) >= 4
    assert max(scores) < 1e-5


def test_logprobs_of_other_weights_show_as_mismatch(model, weights, tmp_path) -> None:
    honest, wrong = make_samples(model, noise=0), make_samples(model, noise=0, temperature=0.5)
    lied = [dataclasses.replace(rollout, temperature=1.0, advantage=1.0) for rollout in wrong]
    loss = policy_loss(model, weights, tmp_path)
    mismatches = [step(loss, model, rows).metrics[MISMATCH_MEAN] for rows in (honest, lied)]
    assert mismatches[0] < 1e-5
    assert mismatches[1] > 0.1


def test_ids_beyond_the_vocabulary_are_an_error(model, weights, tmp_path) -> None:
    beyond = dataclasses.replace(
        sample(1), ids=np.array([VOCABULARY], np.int32), logprobs=np.zeros(1, np.float32), advantage=1.0
    )
    with pytest.raises(TrainerError, match="beyond the model's 64"):
        step(policy_loss(model, weights, tmp_path), model, [beyond])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_moves_logprobs_with_the_sign_of_the_advantage(model, weights, tmp_path, sign) -> None:
    rollouts = [dataclasses.replace(rollout, advantage=sign) for rollout in make_samples(model, groups=1, noise=0)]
    before = [logprobs(model, rollout.prompt_ids.tolist(), rollout.ids.tolist()).sum() for rollout in rollouts]
    taken = step(policy_loss(model, weights, tmp_path), model, rollouts, rate=1e-3)
    after = [logprobs(model, rollout.prompt_ids.tolist(), rollout.ids.tolist()).sum() for rollout in rollouts]
    assert min([float(b - a) * sign for a, b in zip(before, after, strict=True)]) > 0
    assert taken.samples == len(rollouts)
    assert taken.tokens == sum(len(rollout.ids) for rollout in rollouts)
    assert taken.metrics["loss"] == pytest.approx(-sign, abs=1e-4)


def test_a_step_says_after_every_pass_how_far_it_is(model, weights, tmp_path) -> None:
    rollouts, heard = make_samples(model), []
    adam = Adam(model, LearnSettings(learning_rate=1e-12), None)
    loss = policy_loss(model, weights, tmp_path)
    taken = take_step(batch_of(rollouts), loss, adam, 64, progress=lambda done, total: heard.append((done, total)))
    assert len(heard) == len(micro_batches_of(rollouts, 64)) > 2
    assert heard[-1] == (taken.tokens, taken.tokens)
    assert heard == sorted(set(heard))


def test_silent_tokens_thin_the_loss(model, weights, tmp_path) -> None:
    rollouts, loss = make_samples(model), policy_loss(model, weights, tmp_path)
    thin = dataclasses.replace(batch_of(rollouts), tokens=2 * batch_of(rollouts).tokens)
    full, half = (
        take_step(batch, loss, Adam(model, LearnSettings(learning_rate=1e-12), None), 4096)
        for batch in (batch_of(rollouts), thin)
    )
    assert half.metrics["loss"] == pytest.approx(full.metrics["loss"] / 2, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_reports_entropy_clipping_and_distance_from_what_sampled(model, weights, tmp_path, loss) -> None:
    metrics = step(policy_loss(model, weights, tmp_path, loss=loss), model, make_samples(model), 64).metrics
    names = {
        "loss", "grad_norm", "learning_rate", "entropy", "clip_ratio/region_mean", MISMATCH_MEAN,
        MISMATCH_MAX, KL_K1, KL_K3, RATIO_MEAN, EFFECTIVE_SAMPLE_SHARE,
    }  # fmt: skip
    assert names | {"clip_ratio/low_mean", "clip_ratio/high_mean"} >= metrics.keys() >= names
    assert (metrics["clip_ratio/region_mean"] > 0.05) == (loss not in ("sapo", "gspo"))


def test_the_weights_that_sampled_are_at_no_distance(model, weights, tmp_path) -> None:
    metrics = step(policy_loss(model, weights, tmp_path), model, make_samples(model, noise=0)).metrics
    assert [metrics[name] for name in (MISMATCH_MEAN, KL_K1, KL_K3)] == pytest.approx([0, 0, 0], abs=1e-5)
    assert [metrics[name] for name in (RATIO_MEAN, EFFECTIVE_SAMPLE_SHARE)] == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("importance", ["none", "truncate"])
def test_distance_from_what_sampled_is_a_figure_of_the_whole_step_batch(model, weights, tmp_path, importance) -> None:
    rollouts = make_samples(model)
    own = [logprobs(model, rollout.prompt_ids.tolist(), rollout.ids.tolist()).numpy() for rollout in rollouts]
    gone = np.concatenate(own).astype(np.float64) - np.concatenate([rollout.logprobs for rollout in rollouts])
    ratio = np.exp(gone)
    metrics = step(policy_loss(model, weights, tmp_path, importance=importance), model, rollouts, 64).metrics
    assert metrics[KL_K1] == pytest.approx(-gone.mean(), abs=1e-5)
    assert metrics[KL_K3] == pytest.approx((ratio - 1 - gone).mean(), abs=1e-5)
    assert metrics[RATIO_MEAN] == pytest.approx(ratio.mean(), abs=1e-5)
    assert metrics[EFFECTIVE_SAMPLE_SHARE] == pytest.approx(ratio.sum() ** 2 / len(ratio) / (ratio**2).sum(), abs=1e-5)
    assert metrics[EFFECTIVE_SAMPLE_SHARE] < 0.95


def test_the_divergence_from_the_reference_grows_from_zero(model, weights, tmp_path) -> None:
    rollouts = make_samples(model, noise=0)
    loss = policy_loss(model, weights, tmp_path, reference=copy.deepcopy(weights.model), kl=0.1)
    first = step(loss, model, rollouts, rate=1e-2).metrics["kl"]
    assert abs(first) < 1e-6 < 1e-4 < step(loss, model, rollouts).metrics["kl"]


@pytest.mark.slow
def test_the_trainer_loads_no_package_that_it_does_not_use_and_hides_none() -> None:
    assert find_spec("mlflow") is not None
    program = """
import sys
from trainer.learn.loss import HIDDEN_PACKAGES, hide_packages, keep_libraries_offline
keep_libraries_offline()
from trainer.learn import checkpoint
try:
    checkpoint.load(checkpoint.Path("nowhere"), "none")
except checkpoint.TrainerError:
    assert "transformers" in sys.modules
with hide_packages(HIDDEN_PACKAGES):
    from trl import GRPOTrainer
# What reports over the network.
assert "trl.extras.profiling" in sys.modules and "mlflow" not in sys.modules
assert not set(HIDDEN_PACKAGES) & set(sys.modules)
import sklearn, wandb
print(sklearn.__name__, wandb.__name__)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "sklearn wandb\n"
