"""Programs whose results are known, one in ten of them hostile; and a process that runs them until it is killed.

It prints a line a call: how many executions were wrong, or `lost` when the sandbox said that it had failed.

    python -m tests.support.sandbox_process DATA STATE
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

import docker

from events.facts.errors import SandboxError
from sandbox.engine import engine
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, JobResult, Limits

LIMITS = Limits(wall_seconds=20, cpu_seconds=20)
CALL = 50
GOOD = "import heapq, json\ndef f(x):\n    return json.loads(json.dumps(heapq.nlargest(2, [x, x + 1, x + 2])))\n"
HOSTILE = {
    "import os\ndef f(x): os._exit(0)": "exited",
    "def f(x): raise ValueError(x)": "runtime_error",
    "def f(x:": "syntax_error",
    "def f(x): return bytearray(1 << 40)": "memory_limit",
    "def f(x): return 'x' * (1 << 20)": "output_limit",
    "import os\ndef f(x): os.kill(1, 9) or os._exit(1)": "runtime_error",
    "import os\ndef f(x):\n    while True: os.dup(0)": "runtime_error",
    "import os\ndef f(x):\n    while True: os.fork()": "runtime_error",
    "import os\ndef f(x):\n    for i in range(99): open(f'/tmp/{i}', 'w').write('x' * 999)\n    os.abort()": "exited",
    "import threading, time\ndef f(x):\n    while True: threading.Thread(target=time.sleep, args=(9,)).start()": "runtime_error",
}


def job(number: int) -> Job:
    source = list(HOSTILE)[number // 10 % len(HOSTILE)] if number % 10 == 9 else GOOD
    return Job(source=source, inputs=(str(number),))


def is_expected(number: int, execution: JobResult) -> bool:
    (run,) = execution.runs
    source = job(number).source
    return run.value == f"[{number + 2}, {number + 1}]" if source == GOOD else run.status == HOSTILE[source]


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(private: engine.PrivateEngine) -> None:
    """Run call after call, with a new runner when one has failed."""

    def connect(print_line: engine.Notify) -> docker.DockerClient:
        private.up(print_line)
        return docker.DockerClient(base_url=private.url, timeout=60)

    runner = DockerRunner(LIMITS, workers=2, run="tests-killed", connect=connect)
    for start in count(0, CALL):
        numbers = range(start, start + CALL)
        try:
            executions = await runner.run([job(number) for number in numbers])
            unexpected = sum(not is_expected(number, execution) for number, execution in zip(numbers, executions, strict=True))
            print_line(str(unexpected))
        except SandboxError as error:
            print_line(f"lost {error}")
            await runner.close()
            runner = DockerRunner(LIMITS, workers=2, run="tests-killed", connect=connect)


if __name__ == "__main__":
    asyncio.run(main(engine.PrivateEngine(Path(sys.argv[1]), Path(sys.argv[2]))))
