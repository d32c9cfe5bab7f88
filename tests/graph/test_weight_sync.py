"""Weights that are served say what the trainer's own say of its probe, or nothing is sampled."""

from pathlib import Path

import pytest

from events.facts.errors import ModelError
from events.facts.types import PolicyProbed, PolicyServed
from events.facts.values import Digest
from events.stores.memory import MemoryLog
from graph.play.weight_sync import WeightSyncChecker
from graph.settings.config import Config
from roles.models.transformers import TransformersModel
from tests.graph.test_loop import InstantLearner, make_play
from tests.graph.test_play import ScriptedAnswers
from tests.support.scripted_model import ScriptedModel
from tests.support.tiny_model import tiny_weights
from trainer.learn import checkpoint, weight_probe


class StaleServer(TransformersModel):
    """Says that it serves other weights, and goes on with the first."""

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        self._policy = policy


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def perturbed(store: Path, first: Digest, by: float) -> Digest:
    """The same weights with one of them in every hundred moved a little."""
    import torch

    state = checkpoint.load(store, first).model.state_dict()
    torch.manual_seed(1)
    for value in state.values():
        value.add_(by * torch.randn_like(value) * (torch.rand_like(value) < 0.01))
    return checkpoint.save(store, store / first, state, {})


def probed(store: Path, digest: Digest) -> PolicyProbed:
    return weight_probe.probe(checkpoint.load(store, digest), Config().learn)


@pytest.mark.parametrize(("by", "why"), [(0.1, "does not serve them: .* nats in one token"), (1e-3, "still serves")])
async def test_a_server_that_goes_on_with_old_weights_is_caught_however_little_they_moved(store, by, why) -> None:
    first = tiny_weights(store)
    second = perturbed(store, first, by)
    honest, liar = TransformersModel(store / first, first), StaleServer(store / first, first)
    for model in (honest, liar):
        checker = WeightSyncChecker(exact=True)
        await checker.check("shared", model, probed(store, first))
        await model.load_weights(store / second, second)
        if model is honest:
            assert (await checker.check("shared", model, probed(store, second))).largest < 1e-5
            assert checker.checked("shared") == second
        else:
            with pytest.raises(ModelError, match=rf"{second[:8]} of the policy shared {why}.*go on with --resume"):
                await checker.check("shared", model, probed(store, second))
            assert checker.checked("shared") == first


async def test_in_low_precision_the_mean_decides_and_an_unchanged_answer_still_gives_old_weights_away(store) -> None:
    first = tiny_weights(store)
    second = perturbed(store, first, 0.02)
    checker, liar = WeightSyncChecker(exact=False), StaleServer(store / first, first, dtype="bfloat16")
    assert 1e-3 < (await checker.check("shared", liar, probed(store, first))).mean < 0.1
    await liar.load_weights(store / second, second)
    with pytest.raises(ModelError, match=f"{second[:8]} of the policy shared still serves {first[:8]}"):
        await checker.check("shared", liar, probed(store, second))


async def test_weights_that_say_the_same_of_the_probe_may_be_delivered(store) -> None:
    checker, model = WeightSyncChecker(exact=True), ScriptedModel(lambda prompt, seed, index: "")
    for digest in ("1" * 64, "2" * 64):
        await checker.check("shared", model, PolicyProbed(digest=digest, tokens=(1, 2), logprobs=(-0.5,)))
        assert checker.checked("shared") == digest


@pytest.mark.parametrize(
    ("exact", "logprobs", "why"),
    [
        (True, (-0.5, -0.502), r"differ from the trainer's by 0\.002 nats in one token, and 0\.001 are allowed"),
        (False, (-0.5, -0.8), r"differ from the trainer's by 0\.15 nats on average, and 0\.1 are allowed"),
        (True, (-0.5, float("nan")), "by nan nats"),
        (True, (-0.5,), "returns 2 logprobs for 3 tokens"),
    ],
)
async def test_how_far_apart_is_said(exact, logprobs, why) -> None:
    model = ScriptedModel(lambda prompt, seed, index: "")
    probe = PolicyProbed(digest="1" * 64, tokens=(1, 2, 3), logprobs=logprobs)
    with pytest.raises(ModelError, match=why):
        await WeightSyncChecker(exact=exact).check("shared", model, probe)


class MismatchedLearner(InstantLearner):
    """Its probe of the first weights is not what the model says."""

    async def wait_for_probe(self, policy, digest):
        return PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=(-0.5, -2.5))


@pytest.mark.docker
async def test_nothing_is_sampled_with_weights_that_were_not_proved(runner, tmp_path) -> None:
    log = MemoryLog()
    play = make_play(log, runner, ScriptedAnswers(), tmp_path)
    play.weights.trainer = MismatchedLearner(log)
    with pytest.raises(ModelError, match="2 nats in one token"):
        await play.run()
    assert not list(log.read())
    play.weights.trainer = InstantLearner(log)
    await play.run()
    served = [event.fact for event in log.read(kinds=("policy_served",))]
    digest = "0" * 64
    assert served == [
        PolicyServed(role=role, policy=digest, difference=0, mean_difference=0) for role in ("teacher", "student")
    ]
    assert next(log.read()).fact == served[0]
