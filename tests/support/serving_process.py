"""A process that keeps a server with an engine below it, as vLLM has one, and another program; it prints them as a line of JSON.

The engine outlives the server if nobody ends it, and holds shared memory. ENDING: `wait`; `exit` at once, without a word; or
`fork`: wait, with a child that holds everything open that this process does.

    python -m tests.support.serving_process LOG ENDING
"""

import json
import os
import sys
import time
from pathlib import Path

from roles.serving.processes import descendants
from roles.serving.supervised import SupervisedProgram, SupervisedPrograms, new_folder

ENGINE_PROGRAM = """
import os, time
from multiprocessing import shared_memory
from pathlib import Path
memory = shared_memory.SharedMemory(create=True, size=64)
for folder in (Path(), Path("/dev/shm")):
    (folder / f"vllm_dist_{os.getpid()}").touch()
Path("engine").write_text(f"{os.getpid()} {memory.name}")
time.sleep(600)
"""
SERVER_PROGRAM = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {ENGINE_PROGRAM!r}]).wait()
"""


def start_supervised(log: Path) -> tuple[SupervisedPrograms, dict[str, object]]:
    """Such a server, and another program, once they run; and what they are."""
    folder = new_folder()
    commands = [[sys.executable, "-c", SERVER_PROGRAM], ["sleep", "600"]]
    kept = SupervisedPrograms(
        folder, [SupervisedProgram(command, dict(os.environ), f"{log}-{number}") for number, command in enumerate(commands)]
    )
    words: list[str] = []
    while len(words) < 2:
        time.sleep(0.02)
        words = (folder / "engine").read_text().split() if (folder / "engine").exists() else []
    engine = int(words[0])
    server = int(Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()[1])
    return kept, {
        "folder": str(folder),
        "supervisor": kept.supervisor_pid,
        "server": server,
        "engine": engine,
        "everybody": [kept.supervisor_pid, *descendants(kept.supervisor_pid)],
        "memory": ["/dev/shm/" + words[1], f"/dev/shm/vllm_dist_{engine}"],
    }


if __name__ == "__main__":
    started = start_supervised(Path(sys.argv[1]))[1]
    if sys.argv[2] == "fork":
        started["child"] = os.fork()
        if not started["child"]:
            time.sleep(600)
    sys.stdout.write(json.dumps(started) + "\n")
    sys.stdout.flush()
    if sys.argv[2] != "exit":
        time.sleep(600)
