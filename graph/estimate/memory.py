"""Estimates the memory of a run: of a training process, of a model server, and of the GPUs that they may share.

docs/estimates.md explains each formula. GB are 10**9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.errors import BadInput
from graph.estimate.model_dims import ModelDims
from graph.settings import threads
from graph.settings.config import Config, LearnSettings
from roles.model import ROWS_AT_ONCE

DTYPE_BYTES: Final = {"float32": 4, "bfloat16": 2}
MOMENT_BYTES: Final = {"adamw": 8, "adamw_8bit": 2}
"""Bytes of the two optimizer moments of a weight."""
CPU_MODEL_WEIGHTS: Final = 1e8
"""Models with fewer weights are planned for a CPU by default."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. Prices are assumed; `--price` sets another."""

    name: str
    memory: float
    peak: float
    """Peak FLOP/s in bfloat16."""
    price: float
    """US dollars an hour."""
    base: float = 2e9
    """Bytes of a process before it computes: CUDA context, libraries, communication buffers."""
    sampling_mfu: float = 0.15
    """Share of its peak that sampling reaches, in large batches."""
    learning_mfu: float = 0.4
    """Share of its peak that training reaches."""


GPUS: Final = {
    kind.name: kind
    for kind in (
        Gpu("H200", 141e9, 989e12, 3.5),
        Gpu("H100", 80e9, 989e12, 2.5),
        Gpu("A100", 80e9, 312e12, 1.5),
        Gpu("L40S", 48e9, 362e12, 1.0),
        Gpu("RTX4090", 24e9, 165e12, 0.4),
        Gpu("L4", 24e9, 121e12, 0.7),
        Gpu("CPU", 16e9, 2.6e11, 0.0, 0.5e9, sampling_mfu=0.4, learning_mfu=0.8),
    )
}
"""Kinds of GPU by name; `CPU` is two cores with AVX-512, as measured (docs/estimates.md), and their main memory."""
GPU_HELP: Final = (
    f"Kind of GPU to plan for: {', '.join(GPUS)}; CPU by default for models of less than 0.1 B weights, else H100."
)


def gpu_of(name: str | None, dims: ModelDims) -> Gpu:
    """A kind of GPU by name, or the default for a model; BadInput if there is none of this name."""
    name = name or ("CPU" if dims.weights < CPU_MODEL_WEIGHTS else "H100")
    if name not in GPUS:
        raise BadInput(f"There is no GPU {name!r} in the table; take one of {', '.join(GPUS)}.")
    return GPUS[name]


def batch_tokens(learn: LearnSettings, weights: float, *, cpu: bool) -> int:
    """Most padded tokens of a forward pass: `learn.batch_tokens`, or the default for a model of so many weights."""
    return learn.batch_tokens or (2048 if cpu and weights >= threads.SINGLE_THREAD_WEIGHTS else 16384)


@dataclass(frozen=True)
class Memory:
    """The memory of a run, all in bytes."""

    config: Config
    dims: ModelDims
    gpu: Gpu

    @property
    def trained(self) -> float:
        """Number of weights of a policy that are trained."""
        lora = self.config.learn.lora
        return self.dims.adapter(lora.rank, lora.modules) if lora.rank else self.dims.weights

    @property
    def policy_count(self) -> int:
        """Policies that are trained."""
        return len(set(self.config.policy_of.values()))

    @property
    def parts(self) -> int:
        """Number of shards."""
        return 1 if self.config.learn.shard == "none" else self.config.learn.processes

    @property
    def moments(self) -> float:
        """Optimizer moments of one policy."""
        return MOMENT_BYTES[self.config.learn.optimizer] * self.trained

    @property
    def models(self) -> int:
        """Number of whole models in memory: one a policy, or one base of all adapters; twice that with `learn.kl`."""
        return (1 if self.config.learn.lora.rank else self.policy_count) * (2 if self.config.learn.kl else 1)

    @property
    def resident(self) -> float:
        """Weights (float32) and moments, which stay in memory while servers sample; adapters are never sharded."""
        models = 4 * self.dims.weights * self.models
        if self.config.learn.lora.rank:
            return models / self.parts + self.policy_count * (4 * self.trained + self.moments)
        return (models + self.policy_count * self.moments) / self.parts

    @property
    def gradients(self) -> float:
        """Gradients (float32)."""
        return 4 * self.trained / (1 if self.config.learn.lora.rank else self.parts)

    @property
    def state(self) -> float:
        """Weights, gradients and moments."""
        return self.resident + self.gradients

    @property
    def copies(self) -> float:
        """Copies of weights in bfloat16 during a pass: trained ones, and frozen ones of the layers whose gradient is due."""
        learn, dims = self.config.learn, self.dims
        if learn.precision != "bfloat16":
            return 0
        frozen = dims.layer * (1 if learn.gradient_checkpointing else dims.layers) if learn.lora.rank else 0
        return 2 * (self.trained + frozen)

    @property
    def gathered(self) -> float:
        """What is gathered for a while from shards.

        Weights of embeddings, head and two layers (ZeRO-3) or all weights (ZeRO-2); gradients of a layer, embeddings and head.
        """
        dims, stage = self.dims, self.config.learn.shard
        weights = {"none": 0, "zero2": dims.weights, "zero3": 2 * dims.layer + dims.embeddings}[stage]
        gradients = 0 if stage == "none" or self.config.learn.lora.rank else dims.layer + dims.embeddings
        return 4 * (weights + gradients)

    @property
    def batch(self) -> int:
        """Tokens of a forward pass; at least one prompt with its completion."""
        play = self.config.play
        longest = self.config.max_prompt_tokens + max(play.student.max_tokens, play.teacher.max_tokens)
        cpu = self.gpu.name == "CPU"
        return max(batch_tokens(self.config.learn, self.dims.weights, cpu=cpu), longest)

    @property
    def kept(self) -> float:
        """Activations that one layer keeps: inputs of linear layers, the residual stream in float32, inputs of adapters."""
        dims, each, lora = self.dims, DTYPE_BYTES[self.config.learn.precision], self.config.learn.lora
        inputs = 2 * dims.width + dims.queries + 2 * dims.key_values + 3 * dims.inner
        # peft casts the input of every adapted layer to float32, for each of them anew.
        adapted = sum(rows for name, (rows, _) in dims.linear.items() if not lora.modules or name in lora.modules)
        return self.batch * (each * inputs + 4 * 4 * dims.width + (4 * adapted if lora.rank and each < 4 else 0))

    @property
    def activations(self) -> float:
        """Activations of all layers; with gradient checkpointing, every layer's input in float32 and one layer in full."""
        if not self.config.learn.gradient_checkpointing:
            return self.dims.layers * self.kept
        return 4 * self.batch * self.dims.width * self.dims.layers + self.kept

    @property
    def trainer(self) -> float:
        """A training process at its peak."""
        return self.state + self.copies + self.gathered + self.activations + self.gpu.base

    @property
    def fleets(self) -> int:
        """Number of sets of servers: one a policy, or one that all adapters share."""
        return 1 if self.config.learn.lora.rank else self.policy_count

    @property
    def server_weights(self) -> float:
        """Weights of a server on each of its GPUs."""
        return DTYPE_BYTES[self.config.serve.dtype] * self.dims.weights / self.config.serve.tensor_parallel

    @property
    def cache(self) -> float:
        """Keys and values of one token, on all GPUs of a server together."""
        return 2.0 * DTYPE_BYTES[self.config.serve.dtype] * self.dims.layers * self.dims.key_values

    @property
    def server(self) -> float:
        """What a server takes on each of its GPUs."""
        if self.config.serve.backend == "transformers":
            return self.server_weights + self.cache * ROWS_AT_ONCE * self.config.window + self.gpu.base
        if self.gpu.name == "CPU":
            return self.server_weights + self.config.serve.kv_cache_gib * 2**30 + self.gpu.base
        return self.config.serve.gpu_memory * self.gpu.memory

    @property
    def cached(self) -> float:
        """Tokens whose keys and values fit into a server."""
        return max(0.0, self.server - self.server_weights - self.gpu.base) * self.config.serve.tensor_parallel / self.cache

    @property
    def server_gpus(self) -> list[list[str]]:
        """The GPUs of each server of a fleet; of those that run already, where they answer."""
        serve = self.config.serve
        if serve.backend == "vllm" and serve.urls:
            return [[url] for url in serve.urls]
        each, count = serve.tensor_parallel, serve.replicas if serve.backend == "vllm" else 1
        devices = _named(serve.devices) or [str(number) for number in range(count * each)]
        return [devices[start * each : (start + 1) * each] for start in range(count)]

    @property
    def trainer_gpus(self) -> list[str]:
        """The GPU of each training process."""
        count = self.config.learn.processes
        devices = _named(self.config.learn.devices) or [str(number) for number in range(count)]
        return [devices[rank % len(devices)] for rank in range(count)]

    @property
    def gpus(self) -> list[str]:
        """All GPUs that are used."""
        return sorted(
            {*self.trainer_gpus, *(gpu for gpus in self.server_gpus for gpu in gpus)}, key=lambda name: (len(name), name)
        )

    def needed(self, gpu: str) -> float:
        """The peak on one GPU."""
        servers = self.fleets * sum(gpu in gpus for gpus in self.server_gpus)
        trainers = self.trainer_gpus.count(gpu)
        if not self.config.serve.sleep:
            return servers * self.server + trainers * self.trainer
        sampling = servers * self.server + trainers * (self.resident + self.gpu.base)
        return max(sampling, servers * self.gpu.base + trainers * self.trainer)

    @property
    def fits(self) -> bool:
        """Whether every GPU has enough memory, with room for the keys and values of one sequence at least."""
        return all(self.needed(gpu) <= self.gpu.memory for gpu in self.gpus) and self.cached >= self.config.window

    @property
    def main_memory(self) -> float:
        """Main memory beside the GPUs.

        Whole weights as every process reads them, or an update as the first process writes it; and weights of sleeping servers.
        """
        asleep = self.fleets * sum(map(len, self.server_gpus)) * self.server_weights if self.config.serve.sleep else 0
        return max(self.config.learn.processes * 4 * self.dims.weights, 4 * self.trained + self.moments) + asleep


def _named(devices: str) -> list[str]:
    return [name.strip() for name in devices.split(",") if name.strip()]
