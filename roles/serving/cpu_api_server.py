"""vLLM's API server for CPUs, whose engine is forked: most of a start is imports, and the engine has the server's.

vLLM spawns engines on CPUs because a process that has computed with several threads must not fork. A server does not compute,
and an engine with one worker starts no further process. vllm is imported by name only: it is large, and not always installed.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib import import_module


def main() -> None:
    """Run the server with the command line of `vllm.entrypoints.openai.api_server`."""
    # transformers would import it where it is installed, which is a tenth of a start, for a way of sampling that vLLM has not.
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # None marks a module that cannot be imported
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
