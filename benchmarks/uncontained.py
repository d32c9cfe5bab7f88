"""Ways to run a program without a container, for comparison; each in a process that reads programs line by line.

It runs constants of the benchmarks only: nothing here confines a program. It imports nothing of ours, so that a fork copies as
little as ours does. In: `[source, arguments, repetitions]` as JSON; out: `[reprs of the results, seconds of each repetition]`.

    python -I -S benchmarks/uncontained.py fork MODULES
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

TIMEOUT_S = 6
"""What the process pools are told to allow; ours allows as much."""


def call(source: str, arguments: list[list[Any]]) -> list[str]:
    """Run a program in this process; the reprs of what its function returned."""
    space: dict[str, Any] = {}
    exec(compile(source, "<program>", "exec"), space)  # noqa: S102  # a constant of the benchmarks
    return [repr(space["f"](*those)) for those in arguments]


def script(source: str, arguments: list[list[Any]]) -> str:
    """The program as a script that prints the reprs, a line each."""
    return f"{source}\nfor those in {arguments!r}:\n    print(repr(f(*those)))\n"


def fork(source: str, arguments: list[list[Any]]) -> list[str]:
    """The floor: fork, compile, exec, call; no limits, no isolation."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(into, json.dumps(call(source, arguments)).encode())
        os._exit(0)
    os.close(into)
    with open(out, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    results: list[str] = json.loads(answer)
    return results


def fresh(source: str, arguments: list[list[Any]]) -> list[str]:
    """A new interpreter."""
    command = [sys.executable, "-I", "-c", script(source, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def pool(source: str, arguments: list[list[Any]]) -> list[str]:
    """A new pool of one process, as self-play code does for one program."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=1) as executor:
        results: list[str] = executor.schedule(call, args=[source, arguments], timeout=TIMEOUT_S).result()
        return results


def many_in_pool(source: str, arguments: list[list[Any]], count: int) -> tuple[list[str], list[float]]:
    """One pool for all calls, a new process for each of them."""
    from pebble import ProcessPool

    results, seconds = [], []
    with ProcessPool(max_workers=1, max_tasks=1) as executor:
        for _ in range(count):
            began = time.perf_counter()
            results = executor.schedule(call, args=[source, arguments], timeout=TIMEOUT_S).result()
            seconds.append(time.perf_counter() - began)
    return results, seconds


def many(way: str, source: str, arguments: list[list[Any]], count: int) -> tuple[list[str], list[float]]:
    """Run a program so many times, one after another."""
    if way == "worker":
        return many_in_pool(source, arguments, count)
    results, seconds = [], []
    for _ in range(count):
        began = time.perf_counter()
        results = {"fork": fork, "fresh": fresh, "pool": pool}[way](source, arguments)
        seconds.append(time.perf_counter() - began)
    return results, seconds


def main(way: str, modules: str = "") -> None:
    """Do what every line asks for, until there are no more."""
    for name in modules.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(many(way, *json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
