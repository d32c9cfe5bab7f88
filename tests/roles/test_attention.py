"""Attention of sampling in process says what transformers' own would, without a copy of the keys for every query head."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_attention_gives_what_that_of_transformers_gives(heads: int, new: int, masked: bool) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from roles.models.attention import grouped_query_attention

    made = torch.Generator().manual_seed(0)
    query = torch.randn(3, heads, new, 8, generator=made)
    key, value = (torch.randn(3, 2, 7, 8, generator=made) for _ in range(2))
    mask = torch.ones(3, 1, new, 7, dtype=torch.bool)
    mask[1, :, :, :4] = False
    module = SimpleNamespace(num_key_value_groups=heads // 2, is_causal=True)
    arguments = (module, query, key, value, mask if masked else None)
    (ours, _), (theirs, _) = grouped_query_attention(*arguments, scaling=0.5), sdpa_attention_forward(*arguments, scaling=0.5)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("length", [7, 4000])
def test_attention_of_one_query_gives_what_that_of_torch_gives(length: int) -> None:
    from roles.models.attention import _SMALL_PRODUCT, one_query_attention

    made = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 2, 5, 16, generator=made)
    keys, values = (torch.randn(3, 2, length, 16, generator=made) for _ in range(2))
    bias = torch.zeros(3, 1, 1, length)
    bias[1, :, :, :4] = float("-inf")
    assert (5 * 16 * length > _SMALL_PRODUCT) == (length == 4000)
    wanted = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
    torch.testing.assert_close(one_query_attention(queries, keys, values, bias), wanted)
