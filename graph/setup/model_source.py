"""The models that a run's settings ask for: in this process, or on vLLM servers, started for them or running already.

Law: policies that are adapters share the servers of their base; whole weights have servers of their own. However it ends, all
are closed, and servers that were started are gone. Which weights are served is proved elsewhere, see `graph.play.weight_sync`.
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
from graph.settings.config import Config
from graph.settings.threads import threads_of
from roles.model import Model

if TYPE_CHECKING:
    from roles.models.replicas import Replicas
    from roles.serving.command import ServingConfig

API_KEY_VARIABLE: Final = "VLLM_API_KEY"
"""The environment variable with what servers ask for that run already."""


@dataclass(frozen=True)
class PolicyWeights:
    """Weights on disk."""

    folder: Path
    digest: Digest


@asynccontextmanager
async def open_models(
    config: Config, policies: Mapping[str, PolicyWeights], logs: Path, activity: Activity
) -> AsyncIterator[dict[str, Model]]:
    """A model for each policy, by its name; a model says itself which weights it holds, which need not be these yet.

    Args:
        config: whose `serve`.
        policies: what they are to begin with.
        logs: folder for the logs of servers.
        activity: told what is going on while servers start, models load and answers are sampled.

    Raises:
        BadInput: the settings ask for something that is not here.
        ModelError: a model cannot be loaded, or a server does not answer.
    """
    async with AsyncExitStack() as house:
        here = config.serve.backend == "transformers"
        # In a thread, so that a stop need not wait until everything is loaded.
        made = await asyncio.to_thread(_in_process, config, policies, activity) if here else {}
        held: dict[Digest | str, Replicas] = {}
        for name, weights in () if here else policies.items():
            base = adapter_base(weights.folder)
            stands = PolicyWeights(
                weights.folder if base is None else base, weights.digest if base is None else Digest(base.name)
            )
            # Adapters on one base share its servers.
            key = stands.digest if config.learn.lora.rank else name
            if key not in held:
                held[key] = await _replicas(config, stands, logs, activity, house)
            made[name] = _on(config, held[key], stands)
        for model in made.values():
            house.push_async_callback(model.close)
        yield made


def _in_process(config: Config, policies: Mapping[str, PolicyWeights], activity: Activity) -> dict[str, Model]:
    from roles.models.transformers import TransformersModel

    gpu = config.serve.devices.split(",")[0].strip()
    return {
        name: TransformersModel(
            weights.folder,
            weights.digest,
            max_prompt_tokens=config.max_prompt_tokens,
            threads=threads_of(config, weights.folder),
            device=f"cuda:{gpu}" if gpu else None,
            dtype=config.serve.dtype,
            activity=activity,
        )
        for name, weights in policies.items()
    }


def _on(config: Config, replicas: Replicas, stands: PolicyWeights) -> Model:
    from roles.models.vllm import VllmModel

    return VllmModel(replicas, stands.folder, max_prompt_tokens=config.max_prompt_tokens, drift=config.mismatch_limit)


async def _replicas(config: Config, weights: PolicyWeights, logs: Path, activity: Activity, house: AsyncExitStack) -> Replicas:
    from roles.models.replicas import Replicas, served_model_name

    serve = config.serve
    replicas = partial(Replicas, in_flight=serve.in_flight, timeout_s=serve.timeout_s, sleeps=serve.sleep, activity=activity)
    if serve.urls:
        key = os.environ.get(API_KEY_VARIABLE)
        # Nobody knows which weights a server holds that was there before; a base that it does not hold fails its proof.
        holds = weights.digest if config.learn.lora.rank else Digest("")
        with activity.task("waiting for vLLM to say what it serves"):
            name = await served_model_name(serve.urls[0], key, serve.timeout_s)
        return replicas(serve.urls, name, holds, key=key)
    from roles.serving.fleet import start_fleet

    last = ""

    def progress(_: float, line: str) -> None:
        nonlocal last
        last = one_line(line, 100)

    serving = _serving(config, weights, logs)
    with activity.task(f"starting vLLM, whose log is in {logs}", note=lambda: last):
        fleet = await start_fleet(serving, progress)
    house.push_async_callback(fleet.close)
    return replicas(fleet.urls, serving.name, weights.digest, key=fleet.key, check=fleet.check)


def fleet_count(config: Config) -> int:
    """How many fleets of servers a run starts."""
    return 1 if config.learn.lora.rank else len(set(config.policy_of.values()))


def check_servers(config: Config, weights: PolicyWeights) -> None:
    """Whether the servers that a run would start can be started here; asked before there is a run to go on with.

    Raises:
        BadInput: vLLM is not installed, or the settings ask for GPUs that are not here.
    """
    for key, devices in (("serve.devices", config.serve.devices), ("learn.devices", config.learn.devices)):
        if devices and not all(part.strip().isdecimal() for part in devices.split(",")):
            raise BadInput(f"Setting {key} cannot be {devices!r}: write numbers of GPUs with commas between them, such as 0,1.")
    if config.serve.backend == "transformers" or config.serve.urls:
        return
    from roles.serving.command import assign_devices, built_for_cpu

    assign_devices(_serving(config, weights, Path()), cpu=built_for_cpu())


def _serving(config: Config, weights: PolicyWeights, logs: Path) -> ServingConfig:
    from roles.serving.command import ServingConfig

    serve = config.serve
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
        # Each of two policies with whole weights has servers of its own, which answer at the same time.
        threads=threads_of(config, weights.folder, processes=serve.replicas * fleet_count(config)),
        context=config.window,
        rank=config.learn.lora.rank,
        adapters=len(set(config.policy_of.values())),
        sleep=serve.sleep,
        # Every request brings its own; vLLM takes no larger one here.
        seed=config.seed % 2**32,
        start_s=serve.start_s,
    )
