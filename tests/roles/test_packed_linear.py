"""Packed linear layers compute what the plain ones do, up to rounding."""

import copy

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

needs_bfloat16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="the processor does not compute in bfloat16",
)


def model(dtype: object) -> object:
    made = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Linear(48, 80), nn.SiLU(), nn.Sequential(nn.Linear(80, 24, bias=False)))
    for weight in layers.parameters():
        weight.data = torch.randn(weight.shape, generator=made) / 8
    return layers.to(dtype).eval()


@needs_bfloat16
@pytest.mark.parametrize("shape", [(1, 1, 48), (5, 1, 48), (2, 70, 48)])
def test_results_are_those_of_plain_layers_up_to_rounding(shape: tuple[int, ...]) -> None:
    from roles.models.packed_linear import PackedLinear, pack_linear_layers

    plain = model(torch.bfloat16)
    packed = copy.deepcopy(plain)
    pack_linear_layers(packed)
    assert [type(layer) for layer in (packed[0], packed[2][0])] == [PackedLinear] * 2
    states = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(packed(states), plain(states), rtol=0.02, atol=0.02)


def test_layers_in_float32_stay_plain() -> None:
    from roles.models.packed_linear import pack_linear_layers

    plain = model(torch.float32)
    pack_linear_layers(plain)
    assert type(plain[0]) is nn.Linear
