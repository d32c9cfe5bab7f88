"""What programs print at their very end: as CPython has it, which runs the same programs beside the sandbox."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.runner import Job

pytestmark = pytest.mark.docker

PROGRAMS = {
    "a replaced stdout with write and flush": """
import sys
class Tee:
    def __init__(self, o): self.o = o
    def write(self, x): self.o.write(x)
    def flush(self): self.o.flush()
sys.stdout = Tee(sys.stdout)
print(8)""",
    "a replaced stdout that can only write": """
import sys
class Tee:
    def __init__(self, o): self.o = o
    def write(self, x): self.o.write(x)
sys.stdout = Tee(sys.stdout)
print(8)""",
    "a replaced stdout that keeps all until it is flushed": """
import sys
class Late:
    def __init__(self, o): self.o, self.parts = o, []
    def write(self, x): self.parts.append(x)
    def flush(self): self.o.write("".join(self.parts)); self.parts.clear()
sys.stdout = Late(sys.stdout)
print(8)""",
    "a replaced stdout whose flush counts": """
import sys
class Loud:
    def __init__(self, o): self.o, self.count = o, 0
    def write(self, x): self.o.write(x)
    def flush(self): self.count += 1; self.o.write(f"flush {self.count}\\n")
sys.stdout = Loud(sys.stdout)
print(8)""",
    "a replaced stdout whose flush raises": """
import sys
class Bad:
    def __init__(self, o): self.o = o
    def write(self, x): self.o.write(x)
    def flush(self): raise ValueError("no")
sys.stdout = Bad(sys.stdout)
print(8)""",
    "a replaced stdout that lies about being closed": """
import sys
class Closed:
    closed = True
    def __init__(self, o): self.o = o
    def write(self, x): self.o.write(x)
    def flush(self): self.o.write("never")
sys.stdout = Closed(sys.stdout)
print(8)""",
    "no stdout at all": "import sys\nprint(8)\nsys.stdout = None\nprint(9)",
    "stdout deleted": "import sys\nprint(8)\ndel sys.stdout",
    "a replaced stderr that prints when it is flushed": """
import sys
class Loud:
    def write(self, x): pass
    def flush(self): sys.__stdout__.write("flushed\\n")
sys.stderr = Loud()
print(8)""",
    "stderr is stdout": "import sys\nsys.stderr = sys.stdout\nsys.stderr.write('8\\n')",
    "stdout in memory": "import io, sys\nsys.stdout = io.StringIO()\nprint(8)\nsys.__stdout__.write(sys.stdout.getvalue())",
    "another file on the same descriptor": "import sys\nsys.stdout = open(1, 'w')\nprint(8)",
    "a file left open": "out = open(1, 'w')\nout.write('8')",
    "a binary file left open": "out = open(1, 'wb')\nout.write(b'8')",
    "a raw file left open": "out = open(1, 'wb', buffering=0)\nout.write(b'8')",
    "files left open in a list and in a function": """
def f(out=open(1, 'w', closefd=False)): return out
f().write('7')
box = [open(1, 'w', closefd=False)]
box[0].write('8')""",
    "a file left open in a module": "import json, builtins\njson.out = open(1, 'w')\njson.out.write('8')",
    "a file left open in a cycle": "class A: pass\na = A()\na.me, a.out = a, open(1, 'w')\na.out.write('8')\ndel a",
    "the buffer of stdout": "import sys\nprint(1)\nsys.stdout.buffer.write(b'8\\n')\nprint(2)",
    "the detached buffer of stdout": "import sys\nraw = sys.stdout.detach()\nraw.write(b'8\\n')",
    "a wrapper around the buffer": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8')\nprint(8)",
    "a wrapper of raw calls, as contestants write it": """
import io, os, sys
class FastIO(io.IOBase):
    def __init__(self, file):
        self._fd, self.buffer, self.newlines = file.fileno(), io.BytesIO(), 0
        self.writable = "x" in file.mode or "r" not in file.mode
        self.write = self.buffer.write if self.writable else None
    def flush(self):
        if self.writable:
            os.write(self._fd, self.buffer.getvalue())
            self.buffer.truncate(0), self.buffer.seek(0)
class IOWrapper(io.IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file)
        self.flush = self.buffer.flush
        self.writable = self.buffer.writable
        self.write = lambda s: self.buffer.write(s.encode("ascii"))
sys.stdout = IOWrapper(sys.stdout)
print(8)""",
    "a finalizer": "class A:\n    def __del__(self): print(8)\na = A()",
    "a finalizer of objects without fields": "class A:\n    __slots__ = ()\n    def __del__(self): print(8)\na = A()",
    "a finalizer of a class": "class M(type):\n    def __del__(self): print(8)\nclass A(metaclass=M): pass",
    "a finalizer in a cycle": "class A:\n    def __del__(self): print(8)\na = A()\na.me = a\ndel a",
    "a finalizer given later": "class A: pass\na = A()\nA.__del__ = lambda self: print(8)",
    "a finalizer that needs its module": "import math\ndef f(x): return math.gcd(x, 12)\nclass A:\n    def __del__(self): print(f(8))\na = A()",
    "a finalizer that raises": "class A:\n    def __del__(self):\n        print(8)\n        1 / 0\na = A()",
    "finalizers in the order of their names": "class A:\n    def __init__(self, n): self.n = n\n    def __del__(self): print(self.n)\n_x, b, a = A(1), A(2), A(3)",
    "a finalizer of the weakref module": "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 8)",
    "a callback of a weak reference": "import weakref\nclass A: pass\na = A()\nr = weakref.ref(a, lambda _: print(8))\ndel a",
    "a suspended generator": "def g():\n    try: yield 1\n    finally: print(8)\ni = g()\nprint(next(i))",
    "a suspended generator within with": "import contextlib\n@contextlib.contextmanager\ndef c():\n    print(1)\n    yield\n    print(2)\ndef g():\n    with c(): yield\ni = g()\nnext(i)",
    "a suspended coroutine": "import types\n@types.coroutine\ndef wait(): yield\nasync def f():\n    try: await wait()\n    finally: print(8)\nc = f()\nc.send(None)",
    "a suspended generator that has nothing to say": "def g():\n    yield 1\n    print(2)\ni = g()\nprint(next(i))",
    "exit handlers": "import atexit\natexit.register(print, 7)\natexit.register(print, 8)\nprint(6)",
    "an exit handler that raises": "import atexit\n@atexit.register\ndef f():\n    print(8)\n    1 / 0\nprint(6)",
    "an exit handler that exits": "import atexit, sys\n@atexit.register\ndef f():\n    print(8)\n    sys.exit(3)\nprint(6)",
    "an exit handler that registers another": "import atexit\natexit.register(lambda: atexit.register(print, 8))\nprint(6)",
    "an exit handler and a finalizer": "import atexit\nclass A:\n    def __del__(self): print(8)\na = A()\natexit.register(print, 7)",
    "a thread that goes on": "import threading, time\ndef f():\n    time.sleep(0.1)\n    print(8)\nthreading.Thread(target=f).start()\nprint(6)",
    "a thread that goes on after sys.exit": "import sys, threading, time\ndef f():\n    time.sleep(0.1)\n    print(8)\nthreading.Thread(target=f).start()\nprint(6)\nsys.exit()",
    "a thread that raises": "import threading\ndef f():\n    print(8)\n    1 / 0\nthreading.Thread(target=f).start()",
    "a thread that exits": "import sys, threading\ndef f():\n    print(8)\n    sys.exit(1)\nthreading.Thread(target=f).start()",
    "a daemon is not waited for": "import threading, time\ndef f():\n    time.sleep(60)\n    print(9)\nthreading.Thread(target=f, daemon=True).start()\nprint(8)",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\npool.submit(print, 8)",
    "log records in memory": "import logging, logging.handlers, sys\nh = logging.handlers.MemoryHandler(9, target=logging.StreamHandler(sys.stdout))\nlog = logging.getLogger()\nlog.addHandler(h)\nlog.warning('8')",
    "log records": "import logging, sys\nlogging.basicConfig(stream=sys.stdout, format='%(message)s')\nlogging.warning('8')",
    "stdout copied to another descriptor": "import os\nos.dup2(1, 7)\nprint(6)\nout = open(7, 'w')\nout.write('8')",
    "stderr goes to stdout": "import os, sys\nos.dup2(1, 2)\nsys.stderr.write('7\\n')\nprint(8)",
    "stdout closed with text in it": "import os\nprint(8)\nos.close(1)",
    "stdout closed": "import sys\nprint(8)\nsys.stdout.close()",
    "all other descriptors closed": "import os\nos.closerange(3, 999)\nprint(8)",
    "all descriptors closed": "import os\nprint(8, flush=True)\nos.closerange(0, 999)",
    "a file that is /dev/stdout": "out = open('/dev/stdout', 'w')\nout.write('8\\n')\nprint(7)",
    "half of a character that came in so": "print(chr(0xdcc3) + chr(0xdca9))",
    "the C library's buffer": "import ctypes\nctypes.CDLL(None).printf(b'8\\n')",
    "os._exit loses what is in buffers": "import os\nprint(8)\nos._exit(0)",
    "os._exit keeps what was flushed": "import os\nprint(8, flush=True)\nprint(9)\nos._exit(0)",
    "os._exit in an exit handler": "import atexit, os\nprint(8)\natexit.register(os._exit, 0)",
    "os._exit in a thread that goes on": "import os, threading, time\ndef f():\n    time.sleep(0.1)\n    print(9)\n    os._exit(0)\nthreading.Thread(target=f).start()\nprint(8)",
    "a flush that exits": "import sys\nprint(8)\nsys.stdout.flush = sys.exit",
    "sys.exit with a text": "import sys\nprint(8)\nsys.exit('bye')",
    "sys.exit in a function with finally": "import sys\ndef f():\n    try: sys.exit(2)\n    finally: print(8)\nf()",
    "sys.exit in a finalizer": "import sys\nclass A:\n    def __del__(self):\n        print(8)\n        sys.exit(1)\na = A()",
    "a hook that takes an exception for an end": "import sys\ndef hook(*_):\n    print(8)\n    raise SystemExit(0)\nsys.excepthook = hook\n1 / 0",
    "a fork that ends behind its last line": "import os\nprint(8)\nif os.fork() == 0:\n    print(7)\nelse:\n    os.wait()\n    print(9)",
    "a fork that fails": "import os\nprint(8, flush=True)\nif os.fork() == 0:\n    print(7)\n    1 / 0\nos.wait()\nprint(9)",
    "a fork that ends, too": "import os\nprint(8, flush=True)\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint(9 if pid else 7, flush=True)",
    "an event loop left open": "import asyncio\nloop = asyncio.new_event_loop()\nasync def f(): print(8)\nloop.run_until_complete(f())",
    "a task that is cancelled at the end": "import asyncio\nasync def g():\n    try: await asyncio.sleep(60)\n    finally: print(8)\nasync def f():\n    global t\n    t = asyncio.create_task(g())\n    await asyncio.sleep(0)\nasyncio.run(f())",
    "a temporary file": "import tempfile\nf = tempfile.NamedTemporaryFile('w')\nf.write('x')\nprint(8)",
    "a context that is never left": "import contextlib\ns = contextlib.ExitStack()\ns.callback(print, 9)\nprint(8)",
    "large output without an end of line": "import sys\nsys.stdout.write('8' * 50000)",
    "reading by the end": "import sys\nlines = iter(sys.stdin.readline, '')\nprint(next(lines).strip())",
    "as deep a recursion": "depth = 0\ndef f():\n    global depth\n    depth += 1\n    f()\ntry: f()\nexcept RecursionError: print(depth)",
    "its own place": "import os\nprint(os.path.isdir(os.path.dirname(os.path.abspath(__file__))))",
    "the locale of the machine": "import locale\nlocale.setlocale(locale.LC_ALL, '')\nprint(f'{1234.5:n}', locale.getpreferredencoding(False).lower(), 'é')",
    "an open reader": "line = open(0).readline\nprint(line().strip())",
}
"""Each of them exits with 0 or 120 under CPython, or by `sys.exit` of another code."""


def by_cpython(source: str, folder: Path) -> str:
    # A file, not `-c`: CPython flushes behind the last line of a file only.
    file = folder / "solution.py"
    file.write_text(source)
    done = subprocess.run(
        [sys.executable, "-I", file], input="4\n5\n", capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    assert done.returncode >= 0
    return done.stdout


@pytest.mark.parametrize("what", PROGRAMS)
async def test_a_program_ends_as_under_cpython(runner, what, tmp_path):
    (execution,) = await runner.run([Job(source=PROGRAMS[what], inputs=("4\n5\n",), mode="stdin")])
    (run,) = execution.runs
    assert (run.status, run.value) == ("ok", by_cpython(PROGRAMS[what], tmp_path)), run.detail
