"""Sharded weights (FSDP2): each process holds a shard of every tensor, and a layer is gathered only while it computes.

Guarantees: gradients are summed and not averaged. Files on disk hold full tensors, so that a run may go on in any number of
processes. Adapters are replicated: only their base is sharded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from events.facts.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

ShardingStage = Literal[0, 2, 3]
"""ZeRO's numbers: 0 nothing is sharded, 2 gradients and moments, 3 weights as well."""


def sharding_stage(environment: Mapping[str, str]) -> ShardingStage:
    """The stage that `accelerate launch` asks for.

    Raises:
        BadInput: the trainer does not support what it asks for.
    """
    if _is_true(environment, "ACCELERATE_USE_DEEPSPEED"):
        raise BadInput(
            "ACCELERATE_USE_DEEPSPEED asks for DeepSpeed, which would own the optimizer and its state;"
            " take docs/accelerate/zero2.yaml or zero3.yaml, which shard as ZeRO does, by FSDP2."
        )
    if not _is_true(environment, "ACCELERATE_USE_FSDP"):
        return 0
    if environment.get("FSDP_VERSION") != "2" or _is_true(environment, "FSDP_OFFLOAD_PARAMS"):
        raise BadInput(
            "FSDP is asked for in version 1 or with offloading; launch with docs/accelerate/zero2.yaml or zero3.yaml."
        )
    return 3 if _is_true(environment, "FSDP_RESHARD_AFTER_FORWARD") else 2


def _is_true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("true", "1")


def shard(model: Module, sharding_stage: ShardingStage) -> None:
    """Shard the model layer by layer; the parameters outside of layers are one unit."""
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    # Layers before the model, whose unit takes the parameters that are left. It stays gathered after the forward pass, because
    # the backward pass begins with it.
    for layer in [*(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)), model]:
        fully_shard(layer, reshard_after_forward=sharding_stage == 3 and layer is not model)
        assert isinstance(layer, FSDPModule)
        # A plain sum, which every backend supports.
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)


def reshard(model: Module) -> None:
    """Free the full tensors of a forward pass without gradient; with one, the backward pass frees them."""
    from torch.distributed.fsdp import FSDPModule

    for layer in model.modules():
        if isinstance(layer, FSDPModule):
            layer.reshard()


def is_sharded(value: Tensor | Module) -> bool:
    """Whether a tensor or module is sharded."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor | FSDPModule)


def full_tensor(value: Tensor) -> Tensor:
    """The full tensor; if it is sharded, all processes have to call it."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def local_shard(value: Tensor, like: Tensor) -> Tensor:
    """A copy of a full tensor, or of this process's shard of it if `like`, of the same full shape, is sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(like.device, like.dtype)
    if isinstance(like, DTensor):
        value = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return value.clone()
