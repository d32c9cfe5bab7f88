"""Several processes that make one update: who leads, who takes which completions, and how gradients become one.

Law: every process replays the same log; only the leader writes weights, appends and prunes. The loss is normalised over the
whole lesson, so that gradients add up and nothing is averaged. Weights are whole in every process, and then equal, bit for
bit, after an update, or it is not saved; or they are in parts (`trainer.parallel.fsdp`). Alone, nothing here computes anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from events.facts.errors import TrainerError
from trainer.parallel import fsdp
from trainer.parallel.fsdp import ShardingStage

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

_Item = TypeVar("_Item")
_MESSAGE_BYTES: Final = 128
"""Bytes of what the leader can tell at once."""
_TIMEOUT: Final = timedelta(days=30)
"""How long processes wait for the leader, who may wait for play; a dead one is noticed at once."""
_PREFIXES: Final = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_")
_NAMES: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")


@dataclass(frozen=True)
class World:
    """All processes of one trainer, seen from one of them."""

    rank: int = 0
    """Which one this is."""
    size: int = 1
    stage: ShardingStage = 0
    """What of the weights is in parts."""

    @classmethod
    def join(cls) -> World:
        """The world that `accelerate launch` or `torchrun` made, by the environment; without one, this process alone.

        That description is taken out of the environment, so that the libraries below work as if alone. Call it before torch
        is imported: on GPUs every process sees one.

        Raises:
            BadInput: weights are to be sharded in a way that is not ours.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        stage = fsdp.sharding_stage(os.environ)
        if size == 1 or "RANK" not in os.environ:
            return cls()
        rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[local % len(seen)] if seen else str(local)
        import torch
        from torch import distributed

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=_TIMEOUT)
        for name in [name for name in os.environ if name in _NAMES or name.startswith(_PREFIXES)]:
            del os.environ[name]
        return cls(rank, size, stage)

    @property
    def is_leader(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def leave(self) -> None:
        """Take leave of the others, at the end."""
        if self.size > 1:
            from torch import distributed

            distributed.destroy_process_group()

    def told(self, word: str = "") -> str:
        """What the leader says, everywhere; the others wait for it."""
        if self.size == 1:
            return word
        import torch
        from torch import distributed

        said = torch.frombuffer(bytearray(word.encode().ljust(_MESSAGE_BYTES)), dtype=torch.uint8).clone()
        distributed.broadcast(said, src=0)
        return bytes(said.tolist()).decode().rstrip()

    def share(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """What this process takes of them."""
        return items[self.rank :: self.size]

    def missing(self, passes: int) -> int:
        """Passes that this process has to make besides its own, so that all take part in what all do together.

        One at least is made, which tells the names of the metrics; if weights are in parts, as many as anywhere.
        """
        most = self.largest({"passes": passes})["passes"] if self.stage else 1
        return max(0, int(most) - passes)

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes, which have to know the same names."""
        return self._reduced(values, "SUM")

    def largest(self, values: Mapping[str, float]) -> dict[str, float]:
        """The largest over all processes, which have to know the same names."""
        return self._reduced(values, "MAX")

    def _reduced(self, values: Mapping[str, float], how: str) -> dict[str, float]:
        if self.size == 1:
            return dict(values)
        import torch
        from torch import distributed

        found = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        distributed.all_reduce(found, getattr(distributed.ReduceOp, how))
        return dict(zip(sorted(values), found.tolist(), strict=True))

    def add(self, parameters: Iterable[Parameter]) -> None:
        """Make every gradient the sum of all processes'; those in parts are already."""
        if self.size == 1:
            return
        from torch import distributed

        whole = [value.grad for value in parameters if value.grad is not None and not fsdp.is_sharded(value)]
        for one in [distributed.all_reduce(gradient, async_op=True) for gradient in whole]:
            one.wait()

    def agree(self, parameters: Iterable[Tensor]) -> None:
        """Make sure, by sums of their bits, that weights are the same in all processes, where they are whole.

        Raises:
            TrainerError: they differ.
        """
        whole = [] if self.size == 1 else [value.detach() for value in parameters if not fsdp.is_sharded(value)]
        if not whole:
            return
        import torch
        from torch import distributed

        # Sums of the bits as whole numbers, which are the same in whatever order they are added.
        bits = torch.stack([value.view(torch.int32).sum(dtype=torch.int64).cpu() for value in whole])
        least, most = bits.clone(), bits.clone()
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise TrainerError(
                f"The weights of the {self.size} processes are no longer the same after an update; run them on equal devices"
                " and versions, or in one process"
            )

    def shard(self, model: Module) -> None:
        """Leave of the model what is this process's part, if weights are in parts."""
        if self.stage:
            fsdp.shard(model, self.stage)

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors in whole, in the leader's main memory; nothing in the other processes, which have to ask as well."""
        found: dict[str, Tensor] = {}
        for name, value in tensors.items():
            whole = fsdp.full_tensor(value.detach())
            if self.is_leader:
                found[name] = whole.cpu()
        return found


SINGLE_PROCESS: Final = World()
"""One process, the default."""
