"""The cache of sampling in process holds what transformers' own would, bit for bit."""

import pytest

torch = pytest.importorskip("torch")


def test_a_layer_with_room_gives_what_that_of_transformers_gives() -> None:
    from transformers.cache_utils import DynamicLayer

    from roles.models.kv_cache import PreallocatedLayer

    ours, theirs = PreallocatedLayer(), DynamicLayer()
    made = torch.Generator().manual_seed(0)
    rows = 6
    for new, keep in [(7, [0, 1, 1, 2, 3, 5, 4]), (1, None), (1, [6, 0, 2]), *[(1, None)] * 70, (1, [1]), (40, None)]:
        keys, values = (torch.randn(rows, 2, new, 4, generator=made) for _ in range(2))
        for mine, other in zip(ours.update(keys, values), theirs.update(keys, values), strict=True):
            assert torch.equal(mine, other)
        if keep is not None:
            rows = len(keep)
            for layer in (ours, theirs):
                layer.batch_select_indices(torch.tensor(keep))
            assert torch.equal(ours.keys, theirs.keys)
            assert torch.equal(ours.values, theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_layers_with_a_window_are_those_of_transformers() -> None:
    from transformers import MistralConfig, Qwen2Config
    from transformers.cache_utils import DynamicSlidingWindowLayer

    from roles.models.kv_cache import PreallocatedLayer, preallocated_cache

    windows = preallocated_cache(MistralConfig(num_hidden_layers=2, sliding_window=8))
    assert {type(layer) for layer in windows.layers} == {DynamicSlidingWindowLayer}
    assert {type(layer) for layer in preallocated_cache(Qwen2Config(num_hidden_layers=2)).layers} == {PreallocatedLayer}
