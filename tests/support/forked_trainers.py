"""Forks trainers from one process that has imported the heavy libraries already: real processes, a hundredth of the wait.

Reads JSON lines: {"args": [...], "output": path, "environment": {...}} forks `python -m trainer.run ARGS` with these variables
besides and answers with its pid; {"wait": pid} answers with its exit status, negative for a signal. No trainer runs in the nursery itself, so that children start clean.
"""

from __future__ import annotations

import json
import os
import sys

from events.cli.app import run_app
from trainer.learn.loss import keep_libraries_offline


def main() -> None:
    keep_libraries_offline()
    import torch
    from datasets import Dataset  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM  # noqa: F401
    from trl import GRPOConfig, GRPOTrainer  # noqa: F401

    from trainer.learn import loop  # noqa: F401

    torch.set_num_threads(1)
    reply("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            reply(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]))
        else:
            pid = os.fork()
            if pid == 0:
                os.environ.update(asked["environment"])
                run_trainer(asked["args"], asked["output"])
            reply(pid)


def reply(what: str | int) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def run_trainer(args: list[str], output: str) -> None:
    from trainer.run import app

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["trainer.run", *args]
    code = 1
    try:
        run_app(app)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
