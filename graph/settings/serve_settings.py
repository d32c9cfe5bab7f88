"""Settings of what samples completions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from graph.recipes.rewards import SettingsGroup


class ServeSettings(SettingsGroup):
    """What samples completions, and on which devices."""

    backend: Literal["transformers", "vllm"] = "transformers"
    """`transformers`: in the process of play; `vllm`: one or more OpenAI-compatible vLLM servers."""
    urls: tuple[str, ...] = ()
    """Servers that run already, such as `http://gpu-1:8000`, all with the same model; empty: servers are started and stopped
    with the run."""
    replicas: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Servers to start for each set of weights, which share its requests (data parallelism)."""
    tensor_parallel: Annotated[int, Field(ge=1, le=1_000)] = 1
    """GPUs of each server."""
    devices: str = ""
    """Numbers of the GPUs for sampling, such as `0,1`, dealt out to the servers in turn; empty: all that are visible."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of sampling."""
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that a server takes."""
    kv_cache_gib: Annotated[float, Field(gt=0, le=65536)] = 1.0
    """GiB of main memory for the key/value cache of a server on a CPU; it limits how many completions are sampled at once."""
    sleep: bool = False
    """Whether servers give their GPU's memory to the trainer while it trains."""
