"""Policies as adapters on one base: what they are, how they learn, and that what learned them is what serves them."""

import asyncio
import itertools
import json
import shutil
from pathlib import Path

import pytest

from events.facts.errors import ModelError, TrainerError
from events.facts.log import find_run_started
from events.facts.types import PolicyUpdated
from events.facts.values import Digest, Sampling
from events.facts.weights import adapter_base, weights_digest
from events.stores.memory import MemoryLog
from graph.settings.config import LoraSettings
from roles.model import GenerationRequest
from roles.models.transformers import TransformersModel
from tests.support.tiny_model import TinyModelRun, load_model, logprobs, tiny_gpt2, tiny_weights
from trainer.job.update_schedule import UpdateSchedule
from trainer.learn import checkpoint
from trainer.learn.adapter import Adapter
from trainer.learn.importance import MISMATCH_MAX
from trainer.learn.loop import Trainer

LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Digest]:
    store = tmp_path_factory.mktemp("weights")
    return store, tiny_weights(store)


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made[0], tmp_path / "weights")
    return tmp_path


def tell(made, **config) -> TinyModelRun:
    learn = {"lora": {"rank": 4, "alpha": 8}, "learning_rate": 3e-2, **config.pop("learn", {})}
    return TinyModelRun(MemoryLog(), *made).run(learn=learn, **config).goalpost(2)


def teach(tale: TinyModelRun) -> TinyModelRun:
    """An iteration with signal for both roles."""
    tale.start(3).episode(lemma=3).episode().practice().finish()
    return tale


def trainer(tale: TinyModelRun, run: Path) -> Trainer:
    start = find_run_started(tale.log)
    assert start is not None
    return Trainer(tale.log, run, UpdateSchedule(tale.log, start))


def learn(tale: TinyModelRun, run: Path, limit: int = 99) -> list[PolicyUpdated]:
    facts = [event.fact for event in itertools.islice(trainer(tale, run).catch_up(), limit)]
    return [fact for fact in facts if isinstance(fact, PolicyUpdated)]


def scores(model) -> list[float]:
    return logprobs(model, [5, 6, 7], [8, 9, 10, 11]).tolist()


def fresh(made, name: str = "student", lora: LoraSettings = LORA) -> checkpoint.LoadedWeights:
    base = checkpoint.load(*made)
    return checkpoint.load_adapter(base, base.digest, None, policy=name, lora=lora, seed=0)


def stirred(weights: checkpoint.LoadedWeights, seed: int = 1) -> checkpoint.LoadedWeights:
    """The same with an adapter that says something."""
    import torch

    torch.manual_seed(seed)
    weights.adapter.activate()
    with torch.no_grad():
        for parameter in weights.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return weights


def test_a_fresh_adapter_adds_nothing_and_only_it_learns(made) -> None:
    weights = fresh(made)
    weights.adapter.activate()
    assert scores(weights.model) == scores(load_model(made[0] / made[1]))
    learning = {name for name, value in weights.model.named_parameters() if value.requires_grad}
    assert learning
    assert all(".student." in name for name in learning)
    assert not any("lm_head" in name or "embed" in name for name in learning)


def test_the_folder_is_small_names_its_base_and_is_what_peft_loads(made, run) -> None:
    store = run / "weights"
    weights = stirred(fresh((store, made[1])))
    digest = checkpoint.save(store, weights.folder, weights.model.state_dict(), {}, weights.adapter)
    assert weights_digest(store / digest) == digest
    assert adapter_base(store / digest) == store / made[1]
    assert {file.name for file in (store / digest).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "optimizer.moments",
    }
    size, whole = (
        (store / digest / "adapter_model.safetensors").stat().st_size,
        (store / made[1] / "model.safetensors").stat().st_size,
    )
    assert size < 0.3 * whole
    assert scores(load_model(store / digest)) == pytest.approx(scores(weights.model), abs=1e-5)
    again = checkpoint.load_adapter(checkpoint.load(store, made[1]), digest, None, policy="teacher", lora=LORA, seed=7)
    again.adapter.activate()
    assert scores(again.model) == scores(weights.model)


def test_the_digest_of_an_adapter_covers_its_base(made, run) -> None:
    store = run / "weights"
    weights = stirred(fresh((store, made[1])))
    digest = checkpoint.save(store, weights.folder, weights.model.state_dict(), {}, weights.adapter)
    config = store / digest / "adapter_config.json"
    config.write_text(config.read_text().replace(made[1], "0" * 64))
    assert weights_digest(store / digest) != digest
    with pytest.raises(ModelError, match="which is missing or was changed"):
        adapter_base(store / digest)
    with pytest.raises(TrainerError, match="the folder was changed"):
        checkpoint.load_adapter(checkpoint.load(store, made[1]), digest, None, policy="student", lora=LORA, seed=0)


def test_an_adapter_of_another_rank_or_base_is_refused(made, run) -> None:
    store = run / "weights"
    weights = stirred(fresh((store, made[1])))
    digest = checkpoint.save(store, weights.folder, weights.model.state_dict(), {}, weights.adapter)
    other = LoraSettings(rank=2)
    with pytest.raises(TrainerError, match=r"does not fit learn\.lora"):
        checkpoint.load_adapter(checkpoint.load(store, made[1]), digest, None, policy="student", lora=other, seed=0)
    config = store / digest / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "0" * 64}))
    moved = store / weights_digest(store / digest)
    (store / digest).rename(moved)
    with pytest.raises(TrainerError, match=r"does not fit learn\.lora"):
        checkpoint.load_adapter(checkpoint.load(store, made[1]), moved.name, None, policy="student", lora=LORA, seed=0)


def test_layers_that_are_not_found_are_named(made) -> None:
    with pytest.raises(TrainerError, match=r"names 'nowhere', which the model does not have; name some of down_proj"):
        Adapter.attach(checkpoint.load(*made).model, "student", made[1], LoraSettings(rank=2, modules=("nowhere",)), 0)


def test_two_adapters_on_one_base_do_not_touch_each_other(made) -> None:
    base = checkpoint.load(*made)
    teacher, student = (
        checkpoint.load_adapter(base, base.digest, None, policy=name, lora=LORA, seed=0) for name in ("teacher", "student")
    )
    assert teacher.model is student.model
    teacher.adapter.activate()
    before = scores(base.model)
    stirred(student)
    changed = scores(base.model)
    teacher.adapter.activate()
    assert scores(base.model) == before != changed
    student.adapter.activate()
    assert scores(base.model) == changed


def test_the_model_server_serves_an_adapter_with_the_logprobs_that_the_trainer_finds(made, run) -> None:
    store = run / "weights"
    weights = stirred(fresh((store, made[1])))
    digest = checkpoint.save(store, weights.folder, weights.model.state_dict(), {}, weights.adapter)
    model = TransformersModel(store / digest, digest)
    requests = [GenerationRequest("t5 t6 t7", count=4, seed=3, sampling=Sampling(max_tokens=12))]
    [reply] = asyncio.run(model.generate(requests))
    assert reply.policy == digest
    for completion in reply.completions:
        expected = logprobs(weights.model, list(reply.prompt_ids), list(completion.token_ids)).tolist()
        assert completion.logprobs == pytest.approx(expected, abs=1e-5)


def test_separate_policies_are_two_adapters_on_the_first_weights_and_learn_apart(made, run) -> None:
    tale = tell(made, policies="separate")
    teach(teach(tale))
    working = trainer(tale, run)
    working.prepare()
    assert len({working._policies.load(cursor).weights.model for cursor in working._cursors.values()}) == 1
    updates = [event.fact for event in working.catch_up()]
    for name in ("teacher", "student"):
        chain = [update for update in updates if update.policy == name]
        assert [update.parent for update in chain] == [made[1], chain[0].digest]
        assert all(adapter_base(run / "weights" / update.digest) == run / "weights" / made[1] for update in chain)
    assert len({update.digest for update in updates}) == 4
    assert weights_digest(run / "weights" / made[1]) == made[1]


def test_what_adapters_say_of_the_probe_is_what_their_model_server_says(made, run) -> None:
    tale = teach(tell(made, policies="separate"))
    trainer(tale, run).prepare()
    learn(tale, run)
    probes = [event.fact for event in tale.log.read(kinds=("policy_probed",))]
    assert len({probe.digest for probe in probes}) == 3
    for probe in probes:
        expected = TransformersModel(run / "weights" / probe.digest, probe.digest)._logprobs_of(probe.tokens)
        assert list(probe.logprobs) == pytest.approx(expected, abs=1e-5)
    assert len({probe.logprobs for probe in probes}) == 3


def test_a_new_trainer_of_adapters_goes_on_exactly_where_the_last_one_stopped(made, run, tmp_path) -> None:
    def story() -> TinyModelRun:
        return teach(teach(tell(made, policies="separate")))

    other = tmp_path / "other"
    shutil.copytree(run / "weights", other / "weights")
    whole, stopped = learn(story(), run), story()
    parts = [update for _ in range(4) for update in learn(stopped, other, limit=1)]
    key = {(update.policy, update.iteration): update for update in whole}
    assert len(parts) == 4
    assert all(key[update.policy, update.iteration] == update for update in parts)


def test_an_adapter_that_learned_nothing_is_the_base(made, run) -> None:
    """Its KL has no gradient at the base itself: a step is taken, and leaves every weight as it was."""
    tale = tell(made, learn={"kl": 0.1, "filter_silent": False})
    tale.start(3).practice(passing=0).finish()
    [update] = learn(tale, run)
    assert [step.samples for step in update.steps if step.samples] == [8]
    assert update.digest == update.parent == made[1]


def test_adapters_learn_from_what_they_played_themselves(made, run) -> None:
    tale = tell(made, learn={"staleness": 0})
    drifts = []
    for _ in range(3):
        [update] = learn(tale.play(), run)
        tale.load_weights(run / "weights", update.digest)
        drifts.append(next(step.metrics[MISMATCH_MAX] for step in update.steps if step.samples))
    assert update.step >= 3
    assert max(drifts) < 1e-4
    assert scores(load_model(run / "weights" / update.digest)) != pytest.approx(
        scores(load_model(run / "weights" / made[1])), abs=1e-3
    )


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize(
    ("weights", "modules", "adapted"), [(tiny_gpt2, (), 8), (tiny_gpt2, ("attn.c_proj",), 2), (tiny_weights, ("q_proj",), 2)]
)
def test_after_an_update_every_named_layer_says_something_and_is_served(
    tmp_path, weights, modules, adapted, recomputed
) -> None:
    from safetensors.torch import load_file

    store = tmp_path / "weights"
    made = store, weights(store)
    learning = {"lora": {"rank": 2, "modules": modules}, "gradient_checkpointing": recomputed}
    [update] = learn(teach(tell(made, learn=learning)), tmp_path)
    tensors = load_file(store / update.digest / "adapter_model.safetensors")
    grown = [name for name, value in tensors.items() if "lora_B" in name and value.abs().max() > 0]
    assert len(grown) == adapted == len(tensors) // 2
    working = TransformersModel(store / update.digest, update.digest)
    [reply] = asyncio.run(working.generate([GenerationRequest("t5 t6 t7", count=4, seed=3, sampling=Sampling(max_tokens=12))]))
    for completion in reply.completions:
        expected = logprobs(load_model(store / update.digest), list(reply.prompt_ids), list(completion.token_ids)).tolist()
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)
