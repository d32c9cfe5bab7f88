"""Runs commands as processes that are forked, so that none imports again what this process has imported.

    python -m tests.support.forked_cli [COMMANDS]

takes a JSON list of commands, each a list of a module and its arguments, and prints a line of JSON for each: code, output, errors.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from subprocess import CompletedProcess

import events.__main__  # noqa: F401  # so that forks have it
from tests.support.paths import ROOT


def run_forked(module: str, *arguments: object) -> CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` in the project's folder to its end."""
    command = [module, *map(str, arguments)]
    outputs = [os.memfd_create(name) for name in ("stdout", "stderr")]
    pid = os.fork()
    if not pid:
        _become(command, outputs)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = [os.pread(output, os.fstat(output).st_size, 0).decode() for output in outputs]
    for output in outputs:
        os.close(output)
    return CompletedProcess(command, code, *texts)


def _become(command: Sequence[str], outputs: Sequence[int]) -> None:
    """Be the process of a command, and end."""
    code: int | str | None = 1
    try:
        for fd, output in enumerate(outputs, 1):
            os.dup2(output, fd)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", encoding="utf-8", closefd=False) for fd in (1, 2))
        os.chdir(ROOT)
        sys.argv = list(command)
        # Else runpy warns of a module that was imported and is run again.
        sys.modules.pop(f"{command[0]}.__main__", None)
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        ended = run_forked(*words)
        sys.stdout.write(json.dumps([ended.returncode, ended.stdout, ended.stderr]) + "\n")
        sys.stdout.flush()
