"""TRL's loss on our batches is the formula, and a step moves what it should."""

import copy
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from events.errors import TrainerError
from graph.config import LearnSettings
from tests.test_trainer_batch import sample
from tests.tiny import VOCABULARY, logprobs, tiny_weights
from trainer import checkpoint
from trainer.batch import batches
from trainer.credit import Credited, Lesson
from trainer.step import Adam, learn
from trainer.trl import DRIFT, ClippedLoss

CLIP = 0.2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    store = tmp_path_factory.mktemp("weights")
    return checkpoint.load(store, tiny_weights(store))


@pytest.fixture
def model(weights):
    """A fresh copy; TRL patches the model that it is given."""
    return copy.deepcopy(weights.model)


def clipped(model, weights, tmp_path: Path) -> ClippedLoss:
    return ClippedLoss(model, weights.tokenizer, clip=CLIP, seed=0, folder=tmp_path)


def story(model, *, groups: int = 5, count: int = 6, noise: float = 0.3, temperature: float = 1.0) -> list[Credited]:
    """Random completions of the model's own, their logprobs off by some noise, so that ratios are clipped."""
    rng = random.Random(1)
    found = []
    for _ in range(groups):
        prompt = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 20))]
        for _ in range(count):
            ids = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 30))]
            old = logprobs(model, prompt, ids, temperature).numpy() + [rng.gauss(0, noise) for _ in ids]
            plain = sample(temperature=temperature)
            one = {
                "prompt_ids": np.array(prompt, np.int32),
                "ids": np.array(ids, np.int32),
                "logprobs": old.astype(np.float32),
            }
            found.append(Credited(type(plain)(**{**plain.__dict__, **one}), rng.gauss(0, 1)))
    return found


def lesson(credited: list[Credited]) -> Lesson:
    tokens = sum(len(one.sample.ids) for one in credited)
    return Lesson("solve", tuple(credited), groups=5, silent_groups=0, tokens=tokens, reward=0.0)


def formula(model, credited: list[Credited], items: int):
    """-min(r A, clip(r) A) / items, token by token, in float64 and with autograd."""
    import torch

    total = torch.zeros((), dtype=torch.float64)
    for one in credited:
        text = [*one.sample.prompt_ids.tolist(), *one.sample.ids.tolist()]
        logits = model(torch.tensor([text])).logits[0, len(one.sample.prompt_ids) - 1 : -1] / one.sample.temperature
        new = logits.log_softmax(-1).gather(-1, torch.tensor(one.sample.ids.astype(np.int64))[:, None])[:, 0]
        ratio = (new - torch.tensor(one.sample.logprobs.astype(np.float64))).exp()
        both = ratio * one.advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * one.advantage
        total = total - torch.minimum(*both).sum() / items
    return total


def gradient(model) -> np.ndarray:
    found = np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters()])
    model.zero_grad()
    return found


def backward(loss: ClippedLoss, credited: list[Credited], budget: int) -> tuple[float, float]:
    """The summed loss and the token-weighted share of clipped tokens."""
    items = sum(len(one.sample.ids) for one in credited)
    total, cut = 0.0, 0.0
    for batch in batches(credited, budget):
        share, metrics = loss(batch, items)
        share.backward()
        total += share.item()
        cut += metrics["clip_ratio/region_mean"] * batch.tokens / items
    return total, cut


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_loss_and_its_gradient_are_the_clipped_token_loss_in_float64(model, weights, tmp_path, temperature) -> None:
    credited = story(model, temperature=temperature)
    exact = copy.deepcopy(model).double()
    expected = formula(exact, credited, sum(len(one.sample.ids) for one in credited))
    expected.backward()
    total, cut = backward(clipped(model, weights, tmp_path), credited, 4096)
    assert cut > 0.1, "the clip must matter in this test"
    assert total == pytest.approx(expected.item(), abs=1e-6)
    wanted = gradient(exact)
    assert np.abs(gradient(model) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_micro_batches_add_up_to_one_batch(model, weights, tmp_path) -> None:
    credited, loss = story(model), clipped(model, weights, tmp_path)
    assert len(batches(credited, 64)) > 8
    assert len(batches(credited, 10**6)) == 1
    whole, whole_gradient = backward(loss, credited, 10**6), gradient(model)
    parts, parts_gradient = backward(loss, credited, 64), gradient(model)
    assert parts == pytest.approx(whole, abs=1e-6)
    assert np.abs(parts_gradient - whole_gradient).max() < 1e-5 * np.abs(whole_gradient).max()


def test_each_temperature_scores_under_its_own_distribution(model, weights, tmp_path) -> None:
    both = [*story(model, noise=0), *story(model, noise=0, temperature=0.5)]
    loss = clipped(model, weights, tmp_path)
    found = [loss(batch, 1)[1][DRIFT] for batch in [*batches(both, 4096), *batches(both, 4096)]]
    assert len(found) >= 4
    assert max(found) < 1e-5


def test_logprobs_of_other_weights_show_as_drift(model, weights, tmp_path) -> None:
    honest, wrong = story(model, noise=0), story(model, noise=0, temperature=0.5)
    lied = [Credited(type(one.sample)(**{**one.sample.__dict__, "temperature": 1.0}), 1.0) for one in wrong]
    loss = clipped(model, weights, tmp_path)
    drifts = [learn(lesson(rows), loss, Adam(model, LearnSettings(), None), 4096).metrics[DRIFT] for rows in (honest, lied)]
    assert drifts[0] < 1e-5
    assert drifts[1] > 0.1


def test_ids_beyond_the_vocabulary_are_an_error(model, weights, tmp_path) -> None:
    one = sample()
    beyond = type(one)(**{**one.__dict__, "ids": np.array([VOCABULARY], np.int32), "logprobs": np.zeros(1, np.float32)})
    with pytest.raises(TrainerError, match="beyond the model's 64"):
        clipped(model, weights, tmp_path)(batches([Credited(beyond, 1.0)], 512)[0], 1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_moves_logprobs_with_the_sign_of_the_advantage(model, weights, tmp_path, sign) -> None:
    credited = [Credited(one.sample, sign) for one in story(model, groups=1, noise=0)]
    before = [logprobs(model, one.sample.prompt_ids.tolist(), one.sample.ids.tolist()).sum() for one in credited]
    settings = LearnSettings(learning_rate=1e-3)
    step = learn(lesson(credited), clipped(model, weights, tmp_path), Adam(model, settings, None), 4096)
    after = [logprobs(model, one.sample.prompt_ids.tolist(), one.sample.ids.tolist()).sum() for one in credited]
    moved = [float(b - a) * sign for a, b in zip(before, after, strict=True)]
    assert min(moved) > 0
    assert step.samples == len(credited)
    assert step.tokens == sum(len(one.sample.ids) for one in credited)
    assert step.metrics["loss"] == pytest.approx(-sign, abs=1e-4)


def test_silent_tokens_thin_the_loss(model, weights, tmp_path) -> None:
    credited, loss = story(model), clipped(model, weights, tmp_path)
    thin = Lesson("solve", tuple(credited), groups=10, silent_groups=5, tokens=2 * lesson(credited).tokens, reward=0.0)
    full, half = (
        learn(one, loss, Adam(model, LearnSettings(learning_rate=1e-12), None), 4096) for one in (lesson(credited), thin)
    )
    assert half.metrics["loss"] == pytest.approx(full.metrics["loss"] / 2, rel=1e-4)


@pytest.mark.slow
def test_trl_does_not_load_what_reports_over_the_network() -> None:
    assert find_spec("mlflow") is not None
    program = "from trainer.trl import offline; offline(); import sys, trl.extras.profiling; print('mlflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
