"""Data-parallel training: several processes make one update together.

Guarantees:
- Every process replays the same log; only the leader writes weights, appends and prunes.
- The loss is normalised over the whole step batch, so that gradients are summed and not averaged.
- Weights are either replicated, and checked to be equal bit for bit before they are saved, or sharded (`parallel.fsdp`).
- In a single process nothing here computes anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from events.facts.errors import TrainerError
from trainer.parallel import fsdp
from trainer.parallel.fsdp import ShardingStage

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

_Item = TypeVar("_Item")
_MESSAGE_BYTES: Final = 128
"""Most bytes of a message of the leader."""
_TIMEOUT: Final = timedelta(days=30)
"""How long processes wait for the leader, which may wait for play; the death of a process is noticed at once."""
_PREFIXES: Final = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_")
_NAMES: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")


@dataclass(frozen=True)
class World:
    """The processes of one trainer, as one of them sees it."""

    rank: int = 0
    size: int = 1
    stage: ShardingStage = 0

    @classmethod
    def join(cls) -> World:
        """Join the processes that `accelerate launch` or `torchrun` started; without a launcher, this process alone.

        The launcher's variables are removed from the environment, so that libraries work as in one process. Call it before
        torch is imported: it makes one GPU visible to each process.

        Raises:
            BadInput: the launcher asks for sharding that the trainer does not support.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        stage = fsdp.sharding_stage(os.environ)
        if size == 1 or "RANK" not in os.environ:
            return cls()
        rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[local % len(visible)] if visible else str(local)
        import torch
        from torch import distributed

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_TIMEOUT)
        for name in [name for name in os.environ if name in _NAMES or name.startswith(_PREFIXES)]:
            del os.environ[name]
        return cls(rank, size, stage)

    @property
    def is_leader(self) -> bool:
        """Whether this process writes weights and events."""
        return self.rank == 0

    def leave(self) -> None:
        """Leave the process group, at the end; one process of several ends here."""
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()
            # Threads of gloo outlive the group; where the interpreter is torn down under them, the process may abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def broadcast(self, message: str = "") -> str:
        """The leader's message, of at most 128 bytes, in every process; the others wait for it."""
        if self.size == 1:
            return message
        import torch
        from torch import distributed

        # Of fixed length, so that the others know how much to receive.
        data = torch.frombuffer(bytearray(message.encode().ljust(_MESSAGE_BYTES)), dtype=torch.uint8).clone()
        distributed.broadcast(data, src=0)
        return bytes(data.tolist()).decode().rstrip()

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """The items that this process takes."""
        return items[self.rank :: self.size]

    def padding_passes(self, passes: int) -> int:
        """Passes that this process has to make besides its own, so that it takes part in every collective operation.

        Every process makes at least one, which gives it the names of the metrics; with sharding all make equally many.
        """
        most = self.reduce({"passes": passes}, "MAX")["passes"] if self.stage else 1
        return max(0, int(most) - passes)

    def reduce(self, values: Mapping[str, float], how: Literal["SUM", "MAX"]) -> dict[str, float]:
        """Sums or maxima by name over all processes; the names must be the same in all."""
        if self.size == 1:
            return dict(values)
        import torch
        from torch import distributed

        reduced = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        distributed.all_reduce(reduced, getattr(distributed.ReduceOp, how))
        return dict(zip(sorted(values), reduced.tolist(), strict=True))

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace every gradient by its sum over all processes; sharded ones are summed already."""
        if self.size == 1:
            return
        from torch import distributed

        replicated = [value.grad for value in parameters if value.grad is not None and not fsdp.is_sharded(value)]
        for work in [distributed.all_reduce(gradient, async_op=True) for gradient in replicated]:
            work.wait()

    def check_equal(self, parameters: Iterable[Tensor]) -> None:
        """Check that replicated weights are equal in all processes.

        Raises:
            TrainerError: they differ.
        """
        replicated = [] if self.size == 1 else [value.detach() for value in parameters if not fsdp.is_sharded(value)]
        if not replicated:
            return
        import torch
        from torch import distributed

        # The bits are summed as integers, whose sum does not depend on the order.
        bits = torch.stack([value.view(torch.int32).sum(dtype=torch.int64).cpu() for value in replicated])
        least, most = bits.clone(), bits.clone()
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise TrainerError(
                f"The weights of the {self.size} processes are no longer the same after an update; run them on equal devices"
                " and versions, or in one process."
            )

    def shard(self, model: Module) -> None:
        """Shard the model, if the launcher asked for it."""
        if self.stage:
            fsdp.shard(model, self.stage)

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Full tensors by name, in the leader's main memory; empty in the other processes, which have to call it as well."""
        gathered: dict[str, Tensor] = {}
        for name, value in tensors.items():
            full = fsdp.full_tensor(value.detach())
            if self.is_leader:
                gathered[name] = full.cpu()
        return gathered


SINGLE_PROCESS: Final = World()
"""The default."""
