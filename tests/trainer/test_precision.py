"""bfloat16, layers that are computed again, and dropout: what they change in a gradient, and what they must not."""

import copy
from pathlib import Path

import pytest

from graph.settings.config import LearnSettings
from tests.support.tiny_model import tiny_weights
from tests.trainer.test_loss import batch_of, make_samples
from trainer.data.micro_batches import micro_batches_of
from trainer.learn import checkpoint
from trainer.learn.importance import MISMATCH_MAX
from trainer.learn.loss import PolicyLoss


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    store = tmp_path_factory.mktemp("weights")
    return checkpoint.load(store, tiny_weights(store, layers=4))


@pytest.fixture(scope="module")
def rollouts(weights):
    return make_samples(copy.deepcopy(weights.model))


def gradient(weights, rollouts, folder: Path, model=None, **learn):
    """The step batch's gradient, and the metrics of its last micro-batch."""
    import torch

    model = copy.deepcopy(weights.model) if model is None else model
    settings = LearnSettings(**learn)
    reference = copy.deepcopy(weights.model) if settings.kl else None
    loss = PolicyLoss(model, weights.tokenizer, settings, seed=0, folder=folder, longest=30, reference=reference)
    for batch in micro_batches_of(rollouts, 512):
        share, metrics = loss(batch, batch_of(rollouts))
        share.backward()
    assert (
        {value.dtype for value in model.parameters()} == {value.grad.dtype for value in model.parameters()} == {torch.float32}
    )
    return torch.cat([value.grad.flatten() for value in model.parameters()]), metrics


@pytest.mark.parametrize("learn", [{}, {"kl": 0.1, "entropy": 0.01}, {"importance": "truncate"}])
def test_layers_that_are_computed_again_give_the_same_gradient(weights, rollouts, tmp_path, learn) -> None:
    import torch

    plain, figures = gradient(weights, rollouts, tmp_path, **learn)
    again, same = gradient(weights, rollouts, tmp_path, gradient_checkpointing=True, **learn)
    assert torch.allclose(plain, again, rtol=1e-4, atol=1e-6 * float(plain.abs().max()))
    assert same == pytest.approx(figures, abs=1e-5)


def kept(weights, rollouts, folder: Path, **learn) -> int:
    """Bytes that the forward pass keeps for the backward pass."""
    import torch

    model = copy.deepcopy(weights.model)
    loss = PolicyLoss(model, weights.tokenizer, LearnSettings(**learn), seed=0, folder=folder, longest=30)
    held: dict[int, int] = {}

    def pack(tensor):
        held[tensor.data_ptr()] = tensor.nbytes
        return tensor

    [batch] = micro_batches_of(rollouts, 1 << 16, shared=loss.reads_prompt_once)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _, _ = loss(batch, batch_of(rollouts))
    return sum(held.values())


def test_layers_that_are_computed_again_keep_less(weights, rollouts, tmp_path) -> None:
    # Prompts are read for every completion then, which makes up for some of it.
    assert kept(weights, rollouts, tmp_path, gradient_checkpointing=True) < 0.5 * kept(weights, rollouts, tmp_path)


@pytest.mark.parametrize("recomputed", [False, True])
def test_bfloat16_is_near_float32_and_leaves_weights_and_gradients_whole(weights, rollouts, tmp_path, recomputed) -> None:
    import torch

    plain, figures = gradient(weights, rollouts, tmp_path)
    half, near = gradient(weights, rollouts, tmp_path, precision="bfloat16", gradient_checkpointing=recomputed)
    assert torch.nn.functional.cosine_similarity(plain, half, dim=0) > 0.97
    assert not torch.equal(plain, half)
    assert near["entropy"] == pytest.approx(figures["entropy"], rel=0.02)
    assert near[MISMATCH_MAX] == pytest.approx(figures[MISMATCH_MAX], abs=0.3)


def test_nothing_is_dropped_out(weights, rollouts, tmp_path) -> None:
    import torch

    model = copy.deepcopy(weights.model)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    plain, _ = gradient(weights, rollouts, tmp_path)
    gradients, _ = gradient(weights, rollouts, tmp_path, model)
    again, _ = gradient(weights, rollouts, tmp_path, copy.deepcopy(model), gradient_checkpointing=True)
    assert torch.equal(plain, gradients)
    assert torch.allclose(plain, again, rtol=1e-4, atol=1e-6 * float(plain.abs().max()))


@pytest.mark.parametrize("recomputed", [False, True])
def test_no_tensor_is_as_large_as_the_logits_of_all_tokens(weights, tmp_path, recomputed) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    vocabulary = 16_384

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.largest = max(self.largest, result.untyped_storage().nbytes())
            return result

    model = copy.deepcopy(weights.model)
    model.resize_token_embeddings(vocabulary)
    rollouts = make_samples(model, groups=12, count=8)
    settings = LearnSettings(precision="bfloat16", gradient_checkpointing=recomputed)
    loss = PolicyLoss(model, weights.tokenizer, settings, seed=0, folder=tmp_path, longest=30)
    batch = max(micro_batches_of(rollouts, 1 << 16, shared=loss.reads_prompt_once), key=lambda batch: batch.tokens)
    with Watch() as watch:
        share, _ = loss(batch, batch_of(rollouts))
        share.backward()
    logits = batch.ids.size * vocabulary * 2
    assert 0 < watch.largest < logits / 3
