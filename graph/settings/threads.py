"""CPU threads of a process that samples or trains: as set, or as suits the model and the machine.

On small models several threads are slower than one, and they change the last bits of results; large models need them.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from events.facts.weights import ADAPTER_CONFIG_FILE
from graph.settings.config import Config

SINGLE_THREAD_WEIGHTS: Final = 2e7
"""Models with fewer weights compute in one thread."""


def threads_of(config: Config, weights: Path, *, processes: int = 1) -> int:
    """Threads of one process that samples or trains, at least 1.

    Args:
        config: `threads` decides, unless it is 0; with `learn.staleness`, sampling and training share the machine.
        weights: the folder of the model, or of an adapter with its base beside it.
        processes: processes that do the same at the same time.
    """
    at_once = processes * (2 if config.learn.staleness else 1)
    return config.threads or default_threads(weights, processes=at_once)


def default_threads(weights: Path, *, processes: int = 1) -> int:
    """One thread for a small model, else the cores that this process may use, divided by the number of processes."""
    return 1 if weight_count(weights) < SINGLE_THREAD_WEIGHTS else max(1, len(os.sched_getaffinity(0)) // processes)


def weight_count(weights: Path) -> int:
    """Number of weights in the folder of a model, or of an adapter and its base; unreadable files are not counted."""
    count = 0
    for file in [*weights.glob("*.safetensors"), *_base(weights).glob("*.safetensors")]:
        try:
            with safe_open(file, framework="np") as tensors:
                count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            continue
    return count


def _base(weights: Path) -> Path:
    """The folder of the base that an adapter names, not verified; for other models a folder that does not exist."""
    try:
        named = json.loads((weights / ADAPTER_CONFIG_FILE).read_text())
        return weights.parent / str(named["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return weights / "none"
