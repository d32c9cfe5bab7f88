"""AdamW with carried moments, and weights on disk."""

import shutil
from pathlib import Path

import pytest

from events.errors import TrainerError
from events.weights import weights_digest
from graph.config import LearnSettings
from tests.tiny import tiny_weights
from trainer import checkpoint
from trainer.step import BETAS, WARM_UP, Adam


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
    for _ in range(WARM_UP + 2):
        push(model)
        rates.append(adam.step()["learning_rate"])
    assert rates == pytest.approx([SETTINGS.learning_rate * n / WARM_UP for n in range(1, WARM_UP + 1)] + [1e-2, 1e-2])


def test_carried_moments_are_used(store, digest) -> None:
    import torch

    model = checkpoint.load(store, digest).model
    second = {f"{name}.exp_avg_sq": torch.full_like(value, 1.0) for name, value in model.named_parameters()}
    cold, carried = moved(store, digest, None), moved(store, digest, {**second, "step": torch.tensor(500.0)})
    # A cold Adam divides the gradient by itself; a carried one by its history, which is a thousand times larger here.
    assert cold == pytest.approx(SETTINGS.learning_rate / WARM_UP, rel=1e-2)
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
    middle = checkpoint.save(store, first.folder, first.model, half.moments())
    second = checkpoint.load(store, middle)
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
    torch.optim.AdamW(theirs.parameters(), lr=SETTINGS.learning_rate / WARM_UP, betas=BETAS, weight_decay=0).step()
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
    assert checkpoint.save(store, weights.folder, weights.model, {}) == digest
    assert (store / digest).stat().st_ino == inode
    assert [folder.name for folder in store.iterdir()] == [digest]


def test_saved_weights_are_whole_and_named_by_their_content(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    adam = Adam(weights.model, SETTINGS, None)
    push(weights.model)
    adam.step()
    saved = checkpoint.save(store, weights.folder, weights.model, adam.moments())
    assert saved != digest
    assert weights_digest(store / saved) == saved
    wanted = {file.name for file in (store / digest).iterdir()} | {"optimizer.safetensors"}
    assert {file.name for file in (store / saved).iterdir()} == wanted


def test_a_damaged_folder_of_the_same_name_is_replaced(store, digest) -> None:
    weights = checkpoint.load(store, digest)
    (store / "copy").mkdir()
    for file in weights.folder.iterdir():
        shutil.copy(file, store / "copy")
    # The loaded model still maps the old file, so it is replaced and not overwritten.
    (store / digest / "model.safetensors").unlink()
    (store / digest / "model.safetensors").write_bytes(b"torn")
    assert checkpoint.save(store, store / "copy", weights.model, {}) == digest
    assert weights_digest(store / digest) == digest


def test_tied_weights_stay_one_tensor(tmp_path) -> None:
    from safetensors import safe_open

    digest = tiny_weights(tmp_path, tied=True)
    weights = checkpoint.load(tmp_path, digest)
    assert checkpoint.save(tmp_path, weights.folder, weights.model, {}) == digest
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
    checkpoint.clean(store)
    assert [folder.name for folder in store.iterdir()] == [digest]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(store, digest, tmp_path) -> None:
    weights = checkpoint.load(store, digest)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainerError, match="cannot be written"):
        checkpoint.save(tmp_path / "file", weights.folder, weights.model, {})
