"""Weights in parts (FSDP2): each process holds its part of every tensor, and a layer is whole only while it computes.

Law: gradients are added up, not averaged, as everywhere in the trainer. What lies on disk is whole, so that a run may go on
in any number of processes. Adapters stay whole in every process: only the base is in parts. What is not sharded is left as
it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from events.facts.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

ShardingStage = Literal[0, 2, 3]
"""As ZeRO counts: 0 nothing is in parts, 2 gradients and moments, 3 weights as well."""


def sharding_stage(environment: Mapping[str, str]) -> ShardingStage:
    """What `accelerate launch` asks for.

    Raises:
        BadInput: something that the trainer does not do.
    """
    if _is_true(environment, "ACCELERATE_USE_DEEPSPEED"):
        raise BadInput(
            "ACCELERATE_USE_DEEPSPEED asks for DeepSpeed, which would own the optimizer and its state;"
            " take docs/accelerate/zero2.yaml or zero3.yaml, which shard as ZeRO does, by FSDP2"
        )
    if not _is_true(environment, "ACCELERATE_USE_FSDP"):
        return 0
    if environment.get("FSDP_VERSION") != "2" or _is_true(environment, "FSDP_OFFLOAD_PARAMS"):
        raise BadInput(
            "FSDP is asked for in version 1 or with offloading; launch with docs/accelerate/zero2.yaml or zero3.yaml"
        )
    return 3 if _is_true(environment, "FSDP_RESHARD_AFTER_FORWARD") else 2


def _is_true(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("true", "1")


def shard(model: Module, sharding_stage: ShardingStage) -> None:
    """Leave of the model what is this process's part, layer by layer; the embeddings make one part."""
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in [*(one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)), model]:
        fully_shard(layer, reshard_after_forward=sharding_stage == 3 and layer is not model)
        assert isinstance(layer, FSDPModule)
        # A plain sum, which every backend can do.
        layer.set_gradient_divide_factor(1.0)
        layer.set_force_sum_reduction_for_comms(True)


def reshard(model: Module) -> None:
    """Put every layer that was put together without a gradient back in parts; one with a gradient is when that is computed."""
    from torch.distributed.fsdp import FSDPModule

    for layer in model.modules():
        if isinstance(layer, FSDPModule):
            layer.reshard()


def is_sharded(value: Tensor | Module) -> bool:
    """Whether it is in parts."""
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor | FSDPModule)


def full_tensor(value: Tensor) -> Tensor:
    """All of a tensor; if it is in parts, all processes have to ask."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


def local_shard(value: Tensor, like: Tensor) -> Tensor:
    """A copy of a whole tensor, or of this process's part of it, as `like` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(like.device, like.dtype)
    if isinstance(like, DTensor):
        value = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return value.clone()
