"""AdamW with carried moments, and weights on disk."""

import shutil
import sys
from pathlib import Path

import pytest

from events.facts.errors import TrainerError
from events.facts.weights import optimizer_digest, weights_digest
from graph.settings.config import LearnSettings
from tests.support.tiny_model import tiny_weights
from trainer.learn import checkpoint
from trainer.learn.step import BETAS, Adam, schedule_factor


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = tmp_path_factory.mktemp("weights")
    return store, tiny_weights(store)


@pytest.fixture
def store(made, tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def digest(made):
    return made[1]


SETTINGS = LearnSettings(learning_rate=1e-2, max_grad_norm=1.0)


def push(model, size: float = 1e-3) -> None:
    """A gradient that depends on place only."""
    import torch

    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * size


def moved(store: Path, digest, carried) -> float:
    """How far one step moves the weights."""
    model = checkpoint.load(store, digest).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adam = Adam(model, SETTINGS, carried)
    push(model)
    adam.step()
    return max(float((value - before[name]).abs().max()) for name, value in model.state_dict().items())


def test_a_cold_adam_warms_up_over_ten_steps(store, digest) -> None:
    model = checkpoint.load(store, digest).model
    adam = Adam(model, SETTINGS, None)
    rates = []
    for _ in range(SETTINGS.warm_up + 2):
        push(model)
        rates.append(adam.step()["learning_rate"])
    assert rates == pytest.approx(
        [SETTINGS.learning_rate * n / SETTINGS.warm_up for n in range(1, SETTINGS.warm_up + 1)] + [1e-2, 1e-2]
    )


def test_carried_moments_are_used(store, digest) -> None:
    import torch

    model = checkpoint.load(store, digest).model
    second = {f"{name}.exp_avg_sq": torch.full_like(value, 1.0) for name, value in model.named_parameters()}
    cold, carried = moved(store, digest, None), moved(store, digest, {**second, "step": torch.tensor(500.0)})
    # A cold Adam divides the gradient by itself; a carried one by its history, which is a thousand times larger here.
    assert cold == pytest.approx(SETTINGS.learning_rate / SETTINGS.warm_up, rel=1e-2)
    assert 0 < carried < cold / 10


def test_carried_moments_need_no_warm_up(store, digest) -> None:
    import torch

    model = checkpoint.load(store, digest).model
    moments = {f"{name}.exp_avg_sq": torch.ones_like(value) for name, value in model.named_parameters()}
    adam = Adam(model, SETTINGS, {**moments, "step": torch.tensor(500.0)})
    push(model)
    assert adam.step()["learning_rate"] == SETTINGS.learning_rate
    assert adam.steps == 501


def test_steps_after_a_reload_are_the_steps_without_one(store, digest) -> None:
    import torch

    straight = checkpoint.load(store, digest)
    adam = Adam(straight.model, SETTINGS, straight.moments)
    for size in (1e-3, 2e-3):
        push(straight.model, size)
        adam.step()
    first = checkpoint.load(store, digest)
    half = Adam(first.model, SETTINGS, first.moments)
    push(first.model, 1e-3)
    half.step()
    second = checkpoint.load(store, checkpoint.save(store, first.folder, first.model.state_dict(), half.moments()))
    rest = Adam(second.model, SETTINGS, second.moments)
    push(second.model, 2e-3)
    rest.step()
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    assert adam.moments().keys() == rest.moments().keys()
    assert all(torch.equal(value, rest.moments()[name]) for name, value in adam.moments().items())


def test_the_step_is_torchs_adamw(store, digest) -> None:
    import torch

    ours, theirs = (checkpoint.load(store, digest).model for _ in range(2))
    push(ours)
    Adam(ours, SETTINGS, None).step()
    push(theirs)
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), SETTINGS.max_grad_norm)
    torch.optim.AdamW(theirs.parameters(), lr=SETTINGS.learning_rate / SETTINGS.warm_up, betas=BETAS, weight_decay=0).step()
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_gradient_that_is_not_a_number_is_an_error(store, digest) -> None:
    model = checkpoint.load(store, digest).model
    push(model, float("nan"))
    with pytest.raises(TrainerError, match="gradient norm is nan"):
        Adam(model, SETTINGS, None).step()


def test_moments_of_another_model_are_refused(store, digest) -> None:
    import torch

    model = checkpoint.load(store, digest).model
    with pytest.raises(TrainerError, match="has no"):
        Adam(model, SETTINGS, {"step": torch.tensor(1.0)})
    wrong = {f"{name}.exp_avg_sq": torch.ones(3, 1, 1) for name, _ in model.named_parameters()}
    with pytest.raises(TrainerError, match="another shape"):
        Adam(model, SETTINGS, {**wrong, "step": torch.tensor(1.0)})


def test_unchanged_weights_keep_their_digest_and_their_folder(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    inode = (store / digest).stat().st_ino
    assert checkpoint.save(store, weights.folder, weights.model.state_dict(), {}) == digest
    assert (store / digest).stat().st_ino == inode
    assert [folder.name for folder in store.iterdir()] == [digest]


def test_saved_weights_are_whole_and_named_by_their_content(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    adam = Adam(weights.model, SETTINGS, None)
    push(weights.model)
    adam.step()
    saved = checkpoint.save(store, weights.folder, weights.model.state_dict(), adam.moments())
    assert saved != digest
    assert weights_digest(store / saved) == saved
    wanted = {file.name for file in (store / digest).iterdir()} | {"optimizer.moments"}
    assert {file.name for file in (store / saved).iterdir()} == wanted


def test_a_damaged_folder_of_the_same_name_is_replaced(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    (store / "copy").mkdir()
    for file in weights.folder.iterdir():
        shutil.copy(file, store / "copy")
    # The loaded model still maps the old file, so it is replaced and not overwritten.
    (store / digest / "model.safetensors").unlink()
    (store / digest / "model.safetensors").write_bytes(b"torn")
    assert checkpoint.save(store, store / "copy", weights.model.state_dict(), {}) == digest
    assert weights_digest(store / digest) == digest


def test_tied_weights_stay_one_tensor(tmp_path) -> None:
    from safetensors import safe_open

    digest = tiny_weights(tmp_path, tied=True)
    weights = checkpoint.load(tmp_path, digest)
    assert checkpoint.save(tmp_path, weights.folder, weights.model.state_dict(), {}) == digest
    with safe_open(tmp_path / digest / "model.safetensors", framework="pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - safe_open is no mapping


def test_missing_or_changed_weights_are_named(store, digest) -> None:
    with pytest.raises(TrainerError, match="are not in"):
        checkpoint.load(store, "0" * 64)
    (store / digest / "config.json").write_text("{}")
    with pytest.raises(TrainerError, match="the folder was changed"):
        checkpoint.load(store, digest)


def test_half_written_weights_are_removed_and_whole_ones_kept(store, digest) -> None:
    (store / ".unfinished-7").mkdir()
    (store / ".unfinished-7" / "model.safetensors").write_bytes(b"half")
    checkpoint.remove_unfinished(store)
    assert [folder.name for folder in store.iterdir()] == [digest]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(store, digest, tmp_path) -> None:
    weights = checkpoint.load(store, digest)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainerError, match="cannot be written"):
        checkpoint.save(tmp_path / "file", weights.folder, weights.model.state_dict(), {})


def test_another_optimizer_state_than_the_logs_is_named(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    adam = Adam(weights.model, SETTINGS, None)
    push(weights.model)
    adam.step()
    saved = checkpoint.save(store, weights.folder, weights.model.state_dict(), adam.moments())
    state = optimizer_digest(store / saved)
    assert checkpoint.load(store, saved, state).moments is not None
    file = store / saved / "optimizer.moments"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(TrainerError, match=rf"{saved}/optimizer\.moments has the digest .* but the log says {state}"):
        checkpoint.load(store, saved, state)
    file.unlink()
    with pytest.raises(TrainerError, match=r"optimizer\.moments is missing"):
        checkpoint.load(store, saved, state)


def test_equal_weights_with_a_damaged_state_are_replaced_and_the_parent_never_is(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    adam = Adam(weights.model, SETTINGS, None)
    push(weights.model)
    adam.step()
    saved = checkpoint.save(store, weights.folder, weights.model.state_dict(), adam.moments())
    state = optimizer_digest(store / saved)
    (store / saved / "optimizer.moments").write_bytes(b"torn")
    assert checkpoint.save(store, weights.folder, weights.model.state_dict(), adam.moments()) == saved
    assert optimizer_digest(store / saved) == state
    # Weights that did not move keep the state that the log has named for them.
    assert checkpoint.save(store, store / saved, weights.model.state_dict(), {}) == saved
    assert optimizer_digest(store / saved) == state


@pytest.mark.parametrize(
    ("schedule", "shares"), [("constant", [1, 1, 1]), ("linear", [1, 0.75, 0]), ("cosine", [1, 0.853553, 0])]
)
def test_the_schedule_follows_from_the_policys_steps_alone(schedule, shares) -> None:
    settings = LearnSettings(schedule=schedule, schedule_steps=8)
    assert [schedule_factor(settings, taken) for taken in (0, 2, 8)] == pytest.approx(shares, abs=1e-6)
    assert schedule_factor(settings, 99) == schedule_factor(settings, 8)


def test_a_schedule_goes_on_after_a_reload_where_it_was(store, digest) -> None:
    settings = SETTINGS.model_copy(update={"schedule": "linear", "schedule_steps": 8, "warm_up": 0})
    model = checkpoint.load(store, digest).model
    straight = Adam(model, settings, None)
    rates = []
    for _ in range(4):
        push(model)
        rates.append(straight.step()["learning_rate"])
    rest = Adam(model, settings, straight.moments(), taken=4)
    push(model)
    assert [*rates, rest.step()["learning_rate"]] == pytest.approx([1e-2 * (1 - n / 8) for n in range(5)])


def test_the_teacher_may_have_a_learning_rate_of_its_own() -> None:
    settings = LearnSettings(learning_rate=1e-3, teacher_learning_rate=1e-4)
    assert [settings.rate_of(name) for name in ("shared", "teacher", "student")] == [1e-3, 1e-4, 1e-3]
    assert LearnSettings(learning_rate=1e-3).rate_of("teacher") == 1e-3


EIGHT = LearnSettings(learning_rate=1e-2, optimizer="adamw_8bit")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Wide enough that moments are really kept in bytes; small ones are kept whole."""
    store = tmp_path_factory.mktemp("weights")
    return checkpoint.load(store, tiny_weights(store, width=64))


def test_moments_of_a_byte_each_take_a_quarter_and_step_like_whole_ones(wide) -> None:
    import copy

    import torch

    models, sizes = [], []
    for settings in (SETTINGS, EIGHT):
        model = copy.deepcopy(wide.model)
        adam = Adam(model, settings, None)
        for size in (1e-3, 2e-3, 1e-3):
            push(model, size)
            adam.step()
        models.append(torch.cat([value.detach().flatten() for value in model.parameters()]))
        sizes.append(sum(value.nbytes for value in adam.moments().values()))
    before = torch.cat([value.detach().flatten() for value in wide.model.parameters()])
    moved, other = (change - before for change in models)
    assert torch.nn.functional.cosine_similarity(moved, other, dim=0) > 0.99
    assert sizes[1] < 0.4 * sizes[0]


def test_eight_bit_steps_after_a_reload_are_the_steps_without_one(wide, tmp_path) -> None:
    import copy

    import torch
    from safetensors.torch import load_file, save_file

    straight, first = copy.deepcopy(wide.model), copy.deepcopy(wide.model)
    adam, half = Adam(straight, EIGHT, None), Adam(first, EIGHT, None)
    for size in (1e-3, 2e-3):
        push(straight, size)
        adam.step()
    push(first, 1e-3)
    half.step()
    save_file(half.moments(), tmp_path / "optimizer.moments")
    rest = Adam(first, EIGHT, load_file(tmp_path / "optimizer.moments"))
    push(first, 2e-3)
    rest.step()
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), first.parameters(), strict=True))
    assert any(value.dtype == torch.uint8 for value in rest.moments().values())


def test_whole_moments_are_of_no_use_to_the_other_optimizer(wide) -> None:
    whole = Adam(wide.model, SETTINGS, None)
    whole.steps = 500
    assert Adam(wide.model, SETTINGS, whole.moments()).steps == 500
    assert Adam(wide.model, EIGHT, whole.moments()).steps == 0


def test_without_bitsandbytes_the_setting_is_one_sentence(wide, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(TrainerError, match=r"adamw_8bit needs bitsandbytes .* pip install 'gasp\[8bit\]'"):
        Adam(wide.model, EIGHT, None)
