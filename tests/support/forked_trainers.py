"""Forks trainers from one process that has imported the heavy libraries already: real processes, a hundredth of the wait.

Reads JSON lines: {"args": [...], "output": path, "environment": {...}} forks `python -m trainer.run ARGS` with these variables
besides and answers with its pid; {"wait": pid} answers with its exit status, negative for a signal. No trainer runs in
this process itself, so that its children start clean.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from events.cli.app import run_app
from tests.support.paths import ROOT
from trainer.learn.loss import keep_libraries_offline


class TrainerForkServer:
    """Starts this module, and asks it for trainers."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_trainers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid

    def start(self, run: Path, *args: str, **environment: str) -> int:
        return self._ask({"args": [str(run), *args], "output": str(run / "screen"), "environment": environment})

    def wait(self, pid: int) -> int:
        return self._ask({"wait": pid})

    def train(self, run: Path, *args: str) -> int:
        return self.wait(self.start(run, *args))

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, question: dict[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


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
