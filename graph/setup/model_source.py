"""Opens the models that a run's settings ask for: in this process, or on vLLM servers, started for the run or running already.

Policies that are adapters share the servers of their base; whole weights have servers of their own.

Guarantees: all models are closed, and servers that were started are stopped, however the run ends.
Not responsible for: whether a server really uses the weights it was given (`graph.play.weight_sync`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from events.facts.digests import NAME_DIGITS
from events.facts.errors import BadInput
from events.facts.values import Digest
from events.facts.weights import adapter_base
from events.process.activity import Activity
from events.text.safe_text import one_line
from graph.settings.bfloat16 import slow_bfloat16
from graph.settings.config import Config
from graph.settings.threads import threads_of
from roles.model import Model

if TYPE_CHECKING:
    from roles.models.replicas import Replicas
    from roles.serving.command import ServingConfig

API_KEY_VARIABLE: Final = "VLLM_API_KEY"
"""The environment variable with the API key of servers that run already."""


@dataclass(frozen=True)
class PolicyWeights:
    """Weights on disk."""

    folder: Path
    digest: Digest


@dataclass(frozen=True)
class SharedServers:
    """How a process uses the servers of `serve.urls` with the other players of a run."""

    run: str
    """What all of them call the run."""
    loads: bool
    """Whether this one has the servers load weights, as the coordinator alone does."""


@asynccontextmanager
async def open_models(
    config: Config,
    policies: Mapping[str, PolicyWeights],
    logs: Path,
    activity: Activity,
    shared: SharedServers | None = None,
    processes: int = 1,
) -> AsyncIterator[dict[str, Model]]:
    """Open a model for each policy, by its name. `Model.policy` says which weights it serves, which need not be these yet.

    Args:
        config: the settings; `serve` says how.
        policies: the first weights of each policy.
        logs: folder for the logs of servers.
        activity: gets progress while servers start, models load and completions are sampled.
        shared: given where other processes sample from the same servers.
        processes: processes on this machine that open models at the same time, and share its cores.

    Raises:
        BadInput: the settings ask for something that is not here.
        ModelError: a model cannot be loaded, or a server does not answer.
    """
    if slow := slow_bfloat16(config):
        activity.warn(slow)
    async with AsyncExitStack() as stack:
        in_process = config.serve.backend == "transformers"
        # In a thread, so that Ctrl-C need not wait until everything is loaded.
        models = await asyncio.to_thread(_in_process, config, policies, activity, processes) if in_process else {}
        servers: dict[Digest | str, Replicas] = {}
        for name, weights in () if in_process else policies.items():
            folder = adapter_base(weights.folder)
            base = weights if folder is None else PolicyWeights(folder, Digest(folder.name))
            # Adapters on one base share its servers.
            key = base.digest if config.learn.lora.rank else name
            if key not in servers:
                servers[key] = await _replicas(config, base, logs, activity, stack, processes)
            models[name] = _model_on(config, servers[key], base, shared)
        for model in models.values():
            stack.push_async_callback(model.close)
        yield models


def _in_process(config: Config, policies: Mapping[str, PolicyWeights], activity: Activity, processes: int) -> dict[str, Model]:
    from roles.models.transformers import TransformersModel

    gpu = config.serve.devices.split(",")[0].strip()
    return {
        name: TransformersModel(
            weights.folder,
            weights.digest,
            max_prompt_tokens=config.max_prompt_tokens,
            threads=threads_of(config, weights.folder, processes=processes),
            device=f"cuda:{gpu}" if gpu else None,
            dtype=config.serve.dtype,
            activity=activity,
        )
        for name, weights in policies.items()
    }


def _model_on(config: Config, replicas: Replicas, base: PolicyWeights, shared: SharedServers | None) -> Model:
    from roles.models.vllm import VllmModel

    model = partial(VllmModel, replicas, base.folder, max_prompt_tokens=config.max_prompt_tokens, drift=config.mismatch_limit)
    return model() if shared is None else model(run=shared.run, loads=shared.loads)


async def _replicas(
    config: Config, weights: PolicyWeights, logs: Path, activity: Activity, stack: AsyncExitStack, processes: int
) -> Replicas:
    from roles.models.replicas import Replicas, served_model_name

    serve = config.serve
    replicas = partial(Replicas, sleeps=serve.sleep, activity=activity)
    if serve.urls:
        key = os.environ.get(API_KEY_VARIABLE)
        # It is not known which weights a server holds that was there before; a wrong base fails the weight-sync check.
        holds = weights.digest if config.learn.lora.rank else Digest("")
        with activity.task("waiting for vLLM to say what it serves"):
            name = await served_model_name(serve.urls[0], key)
        return replicas(serve.urls, name, holds, key=key)
    from roles.serving.fleet import start_fleet

    last = ""

    def progress(_: float, line: str) -> None:
        nonlocal last
        last = one_line(line, 100)

    serving = _serving_config(config, weights, logs, processes)
    with activity.task(f"starting vLLM, whose log is in {logs}", note=lambda: last):
        fleet = await start_fleet(serving, progress)
    stack.push_async_callback(fleet.close)
    return replicas(fleet.urls, serving.name, weights.digest, key=fleet.key, check=fleet.check)


def check_servers(config: Config, weights: PolicyWeights) -> None:
    """Check that the servers of a run can be started here, before there is a run; BadInput if vLLM or a GPU is missing."""
    for key, devices in (("serve.devices", config.serve.devices), ("learn.devices", config.learn.devices)):
        if devices and not all(part.strip().isdecimal() for part in devices.split(",")):
            raise BadInput(f"Setting {key} cannot be {devices!r}: write numbers of GPUs with commas between them, such as 0,1.")
    if config.serve.backend == "transformers" or config.serve.urls:
        return
    from roles.serving.command import assign_devices, built_for_cpu

    assign_devices(_serving_config(config, weights, Path()), cpu=built_for_cpu())


def _serving_config(config: Config, weights: PolicyWeights, logs: Path, processes: int = 1) -> ServingConfig:
    from roles.serving.command import ServingConfig

    serve, rank, policies = config.serve, config.learn.lora.rank, len(set(config.policy_of.values()))
    return ServingConfig(
        weights=weights.folder,
        name=weights.digest[:NAME_DIGITS],
        logs=logs,
        replicas=serve.replicas,
        tensor_parallel=serve.tensor_parallel,
        devices=serve.devices,
        dtype=serve.dtype,
        gpu_memory=serve.gpu_memory,
        kv_cache_gib=serve.kv_cache_gib,
        # Two policies with whole weights have servers of their own, which compute at the same time.
        threads=threads_of(config, weights.folder, processes=processes * serve.replicas * (1 if rank else policies)),
        context=config.window,
        rank=rank,
        adapters=policies,
        sleep=serve.sleep,
        # Every request has its own seed; this one only has to be one that vLLM takes.
        seed=config.seed % 2**32,
    )
