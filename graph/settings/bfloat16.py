"""Whether the processor has instructions for bfloat16, where a run without a GPU asks it for that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from graph.settings.config import Config

CPU_INFO: Final = Path("/proc/cpuinfo")
GPU_FILE: Final = Path("/dev/nvidiactl")
_FEATURES: Final = ({"avx512bw", "avx512vl", "avx512dq"}, {"amx_bf16"}, {"bf16"})
"""Any of these is enough for PyTorch's matrix products; the last is of ARM."""


def slow_bfloat16(config: Config, cpu_info: Path = CPU_INFO, gpu_file: Path = GPU_FILE) -> str | None:
    """A sentence on settings that are slow on this processor; None where there are none, or a GPU is there."""
    keys = ["serve.dtype"] if config.serve.dtype == "bfloat16" and not config.serve.urls else []
    keys += ["learn.precision"] if config.learn.precision == "bfloat16" else []
    if not keys or gpu_file.exists() or _has_bfloat16(cpu_info):
        return None
    return (
        "this processor has no instructions for bfloat16 (AVX-512 or AMX), and is several times slower in it than in float32;"
        f" set {' and '.join(f'{key}=float32' for key in keys)}"
    )


def _has_bfloat16(cpu_info: Path) -> bool:
    """Whether the processor has them, or does not say."""
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    known = [set(line.partition(":")[2].split()) for line in lines if line.lower().startswith(("flags", "features"))]
    return not known or any(features <= known[0] for features in _FEATURES)
