"""Memory that a process keeps for its next tensors, and gives back when it is asked to."""

import json
import subprocess
import sys

KEEPS_AND_RELEASES = """
import gc, json, threading
from events.process.process_memory import release_memory, tune_process

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def allocate():
    bytearray(100_000_000)

sizes = [resident()]
tune_process()
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
sizes.append(resident())
release_memory()
sizes.append(resident())
frozen = gc.get_freeze_count()
tune_process()
print(json.dumps({"sizes": sizes, "frozen": [frozen, gc.get_freeze_count()]}))
"""


def test_memory_freed_by_any_thread_is_kept_until_it_is_released():
    done = subprocess.run([sys.executable, "-c", KEEPS_AND_RELEASES], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    before, kept, released = measured["sizes"]
    assert kept > before + 90_000_000
    assert released < before + 10_000_000
    assert measured["frozen"][0] == measured["frozen"][1] > 0
