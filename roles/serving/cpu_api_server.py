"""vLLM's API server for CPUs, whose engine is forked: most of a start is imports, and the engine has the server's.

vLLM spawns engines on CPUs because a process that has computed with several threads must not fork. A server does not compute,
and an engine with one worker starts no further process. vllm is imported by name only: it is large, and not always installed.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
from importlib import import_module


def main() -> None:
    """Run the server with the command line of `vllm.entrypoints.openai.api_server`."""
    # transformers would import both where they are installed, and vLLM one, which is a quarter of a start: for a way of
    # sampling that vLLM has not, and for sound.
    for package in ("sklearn", "scipy"):
        sys.modules[package] = None  # type: ignore[assignment]  # None marks a module that cannot be imported
    # Next to nothing of what modules make is garbage, and looking for it is a fifth of a start.
    gc.set_threshold(100_000)
    platform = import_module("vllm.platforms.cpu").CpuPlatform
    update_config = platform.check_and_update_config

    def update_config_and_fork(config: object) -> None:
        update_config(config)
        # vLLM has just set it to `spawn`, whatever it was.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    platform.check_and_update_config = staticmethod(update_config_and_fork)
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
