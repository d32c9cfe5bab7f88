"""A process that keeps a server with an engine below it, as vLLM has one, and prints what was started as one line of JSON.

The engine outlives the server if nobody ends it, and holds shared memory. ENDING: `wait`; `exit` at once, without a word; or
`fork`: wait, with a child that holds everything open that this process does.

    python -m tests.serving_owner LOG ENDING
"""

import json
import os
import sys
import time
from pathlib import Path

from roles.serving.keeping import Kept, Program, new_folder

ENGINE = """
import os, time
from multiprocessing import shared_memory
from pathlib import Path
memory = shared_memory.SharedMemory(create=True, size=64)
Path("engine").write_text(f"{os.getpid()} {memory.name}")
time.sleep(600)
"""
SERVER = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {ENGINE!r}]).wait()
"""


def keep(log: Path) -> tuple[Kept, dict[str, object]]:
    """The programs once they run, and what they are."""
    folder = new_folder()
    kept = Kept(folder, [Program([sys.executable, "-c", SERVER], dict(os.environ), str(log))])
    said: list[str] = []
    while len(said) < 2:
        time.sleep(0.02)
        said = (folder / "engine").read_text().split() if (folder / "engine").exists() else []
    engine = int(said[0])
    server = int(Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()[1])
    return kept, {"folder": str(folder), "keeper": kept.keeper, "server": server, "engine": engine, "memory": said[1]}


if __name__ == "__main__":
    started = keep(Path(sys.argv[1]))[1]
    if sys.argv[2] == "fork":
        started["child"] = os.fork()
        if not started["child"]:
            time.sleep(600)
    sys.stdout.write(json.dumps(started) + "\n")
    sys.stdout.flush()
    if sys.argv[2] != "exit":
        time.sleep(600)
