"""Estimates the memory of a run: of a training process, of a model server, and of the GPUs that they may share.

docs/scaling.md explains each formula. GB are 10**9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from events.facts.errors import BadInput
from graph.estimate.model_dims import ModelDims
from graph.settings import threads
from graph.settings.config import Config, LearnSettings

DTYPE_BYTES: Final = {"float32": 4, "bfloat16": 2}
MOMENT_BYTES: Final = {"adamw": 8, "adamw_8bit": 2}
"""Bytes of both moments of a weight."""
MAX_COMPLETIONS_AT_ONCE: Final = 256
"""Completions that are sampled together where no server does it."""
CPU_MODEL_WEIGHTS: Final = 1e8
"""Weights of models that need no GPU, at most."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. Prices are assumed; `--price` says yours."""

    name: str
    memory: float
    peak: float
    """FLOP/s at best, in bfloat16."""
    price: float
    """US dollars an hour."""
    base: float = 2e9
    """Bytes of a process before it computes: CUDA's context, libraries, buffers for communication."""


GPUS: Final = {
    kind.name: kind
    for kind in (
        Gpu("H200", 141e9, 989e12, 3.5),
        Gpu("H100", 80e9, 989e12, 2.5),
        Gpu("A100", 80e9, 312e12, 1.5),
        Gpu("L40S", 48e9, 362e12, 1.0),
        Gpu("RTX4090", 24e9, 165e12, 0.4),
        Gpu("L4", 24e9, 121e12, 0.7),
        Gpu("CPU", 8e9, 2e11, 0.0, 0.5e9),
    )
}
"""By name; `CPU` is one core with AVX-512 and its share of main memory."""
GPU_HELP: Final = (
    f"Kind of GPU to plan for: {', '.join(GPUS)}; CPU by default for models of less than 0.1 B weights, else H100."
)


def gpu_of(name: str | None, shape: ModelDims) -> Gpu:
    """A kind of GPU by name, or one that suits a model.

    Raises:
        BadInput: none is called so.
    """
    name = name or ("CPU" if shape.weights < CPU_MODEL_WEIGHTS else "H100")
    if name not in GPUS:
        raise BadInput(f"There is no GPU {name!r} in the table; take one of {', '.join(GPUS)}")
    return GPUS[name]


def batch_tokens(learn: LearnSettings, weights: float, *, cpu: bool) -> int:
    """Most padded tokens of a forward pass of a model of so many weights: as set, or as suits the model and the device."""
    return learn.batch_tokens or (2048 if cpu and weights >= threads.SINGLE_THREAD_WEIGHTS else 16384)


@dataclass(frozen=True)
class Memory:
    """The memory of a run."""

    config: Config
    shape: ModelDims
    gpu: Gpu

    @property
    def trained(self) -> float:
        """Weights of a policy that take gradients."""
        lora = self.config.learn.lora
        return self.shape.adapter(lora.rank, lora.modules) if lora.rank else self.shape.weights

    @property
    def pupils(self) -> int:
        """Policies in memory at once."""
        return len(set(self.config.policy_of.values()))

    @property
    def parts(self) -> int:
        """In how many parts what is sharded lies."""
        return 1 if self.config.learn.shard == "none" else self.config.learn.processes

    @property
    def moments(self) -> float:
        """Bytes of the moments of one policy."""
        return MOMENT_BYTES[self.config.learn.optimizer] * self.trained

    @property
    def models(self) -> int:
        """Whole models in memory: of each policy, or one below all adapters; and as many to be pulled to (`learn.kl`)."""
        return (1 if self.config.learn.lora.rank else self.pupils) * (2 if self.config.learn.kl else 1)

    @property
    def resting(self) -> float:
        """Bytes of weights (float32) and moments that stay while others sample; adapters are never in parts."""
        models = 4 * self.shape.weights * self.models
        if self.config.learn.lora.rank:
            return models / self.parts + self.pupils * (4 * self.trained + self.moments)
        return (models + self.pupils * self.moments) / self.parts

    @property
    def gradients(self) -> float:
        """Bytes of gradients (float32)."""
        return 4 * self.trained / (1 if self.config.learn.lora.rank else self.parts)

    @property
    def state(self) -> float:
        """Bytes of weights, gradients and moments."""
        return self.resting + self.gradients

    @property
    def copies(self) -> float:
        """Bytes of trained weights in bfloat16 while a pass computes; frozen ones are cast layer by layer."""
        return 2 * self.trained if self.config.learn.precision == "bfloat16" else 0

    @property
    def whole(self) -> float:
        """Bytes that are whole for a while where weights lie in parts.

        Weights of embeddings, head and two layers, or, as stage 2 has it, all; gradients of one layer, embeddings and head.
        """
        shape, stage = self.shape, self.config.learn.shard
        weights = {"none": 0, "zero2": shape.weights, "zero3": 2 * shape.layer + shape.embeddings}[stage]
        gradients = 0 if stage == "none" or self.config.learn.lora.rank else shape.layer + shape.embeddings
        return 4 * (weights + gradients)

    @property
    def batch(self) -> int:
        """Tokens of a forward pass; one completion with its prompt is never cut."""
        play = self.config.play
        longest = self.config.max_prompt_tokens + max(play.student.max_tokens, play.teacher.max_tokens)
        cpu = self.gpu.name == "CPU"
        return max(batch_tokens(self.config.learn, self.shape.weights, cpu=cpu), longest)

    @property
    def kept(self) -> float:
        """Bytes that one layer keeps for its gradient: inputs of linear layers, and the residual stream in float32."""
        shape, each = self.shape, DTYPE_BYTES[self.config.learn.precision]
        inputs = 2 * shape.width + shape.queries + 2 * shape.key_values + 3 * shape.inner
        return self.batch * (each * inputs + 4 * 4 * shape.width)

    @property
    def activations(self) -> float:
        """Bytes of a pass: of every layer; or, recomputed, every layer's input in float32 and one layer in full."""
        if not self.config.learn.gradient_checkpointing:
            return self.shape.layers * self.kept
        return 4 * self.batch * self.shape.width * self.shape.layers + self.kept

    @property
    def learner(self) -> float:
        """Bytes of a process that learns, at most."""
        return self.state + self.copies + self.whole + self.activations + self.gpu.base

    @property
    def fleets(self) -> int:
        """Sets of weights that have servers of their own; adapters share theirs."""
        return 1 if self.config.learn.lora.rank else self.pupils

    @property
    def served(self) -> float:
        """Bytes of the weights of a server on each of its GPUs."""
        return DTYPE_BYTES[self.config.serve.dtype] * self.shape.weights / self.config.serve.tensor_parallel

    @property
    def cache(self) -> float:
        """Bytes of keys and values of one token that is being sampled, on all GPUs of a server."""
        return 2.0 * DTYPE_BYTES[self.config.serve.dtype] * self.shape.layers * self.shape.key_values

    @property
    def server(self) -> float:
        """Bytes of a GPU that its server takes."""
        if self.config.serve.backend == "transformers":
            return self.served + self.cache * MAX_COMPLETIONS_AT_ONCE * self.config.window + self.gpu.base
        if self.gpu.name == "CPU":
            return self.served + self.config.serve.kv_cache_gib * 2**30 + self.gpu.base
        return self.config.serve.gpu_memory * self.gpu.memory

    @property
    def cached(self) -> float:
        """Tokens whose keys and values fit into a server."""
        return max(0.0, self.server - self.served - self.gpu.base) * self.config.serve.tensor_parallel / self.cache

    @property
    def serving(self) -> list[list[str]]:
        """The GPUs of each server of a fleet; of those that run already, where they answer."""
        serve = self.config.serve
        if serve.backend == "vllm" and serve.urls:
            return [[url] for url in serve.urls]
        each, count = serve.tensor_parallel, serve.replicas if serve.backend == "vllm" else 1
        devices = _named(serve.devices) or [str(number) for number in range(count * each)]
        return [devices[start * each : (start + 1) * each] for start in range(count)]

    @property
    def learning(self) -> list[str]:
        """The GPU of each learning process."""
        count = self.config.learn.processes
        devices = _named(self.config.learn.devices) or [str(number) for number in range(count)]
        return [devices[rank % len(devices)] for rank in range(count)]

    @property
    def gpus(self) -> list[str]:
        """All that are used."""
        return sorted({*self.learning, *(gpu for gpus in self.serving for gpu in gpus)}, key=lambda name: (len(name), name))

    def needed(self, gpu: str) -> float:
        """Bytes of a GPU that are taken when most are."""
        servers = self.fleets * sum(gpu in gpus for gpus in self.serving)
        learners = self.learning.count(gpu)
        if not self.config.serve.sleep:
            return servers * self.server + learners * self.learner
        sampling = servers * self.server + learners * (self.resting + self.gpu.base)
        return max(sampling, servers * self.gpu.base + learners * self.learner)

    @property
    def fits(self) -> bool:
        """Whether memory is enough, and holds one sequence at least."""
        return all(self.needed(gpu) <= self.gpu.memory for gpu in self.gpus) and self.cached >= self.config.window

    @property
    def main_memory(self) -> float:
        """Bytes beside the GPUs.

        Whole weights as each process reads them, or all of an update as the first writes it; and weights of sleeping servers.
        """
        asleep = self.fleets * sum(map(len, self.serving)) * self.served if self.config.serve.sleep else 0
        return max(self.config.learn.processes * 4 * self.shape.weights, 4 * self.trained + self.moments) + asleep


def _named(devices: str) -> list[str]:
    return [name.strip() for name in devices.split(",") if name.strip()]
