"""Forks our commands from a process that has imported their libraries: real processes, without the seconds of a fresh start.

`ForkingPopen` is `subprocess.Popen` in which `python -m MODULE ...` is forked where MODULE is in `COMMANDS`; everything else is
started as ever. A forked command is a child of the process that asked for it, with its own session, files and environment. The
commands that it starts itself are forked too: it was given processes that wait for that (`_CHILDREN`).
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from typing import Any, get_args

from events.process.startup import begin_command, die_with_parent
from roles.questions.load import load_questions
from roles.questions.question_set import Split
from tests.support.paths import ROOT
from trainer.learn.loss import HIDDEN_PACKAGES, hide_packages, keep_libraries_offline

COMMANDS = {
    "accelerate.commands.launch": "accelerate.commands.launch",
    "benchmarks.update_contenders": "benchmarks.update_contenders",
    "events": "events.__main__",
    "events.trace": "events.trace",
    "events.web": "events.web.__main__",
    "graph.run": "graph.run",
    "graph.goalposts": "graph.goalposts.__main__",
    "roles": "roles.__main__",
    "roles.serve": "roles.serve",
    "trainer": "trainer.__main__",
    "trainer.run": "trainer.run",
    "trainer.evaluate": "trainer.evaluate",
    "trainer.experiment": "trainer.experiment",
    "trainer.gasp": "trainer.gasp",
    "tests.support.log_consumer": "tests.support.log_consumer",
    "tests.support.log_writer": "tests.support.log_writer",
    "tests.support.racing_writer": "tests.support.racing_writer",
}
"""Their modules."""
_LIBRARIES = """
    docker langgraph.graph scipy.sparse torch datasets transformers.models.qwen3.modeling_qwen3
    transformers.models.auto.modeling_auto transformers.models.auto.tokenization_auto trl.trainer.grpo_trainer matplotlib.pyplot
    graph.play_run graph.setup.assemble graph.setup.model_source roles.models.attention roles.models.transformers
    trainer.experiments.progress trainer.experiments.report trainer.job.job trainer.learn.loop trainer.learn.tuning
    trainer.learn.update_report events.stores.schema
""".split()
_CHILDREN = {"accelerate.commands.launch": 2, "graph.run": 4, "trainer.experiment": 3, "trainer.gasp": 2}
"""How many commands each may start."""
_SET_PDEATHSIG, _SET_NAME, _SET_CHILD_SUBREAPER = 1, 15, 36
_MESSAGE_BYTES = 2**20


class ForkingPopen(subprocess.Popen):
    """A `Popen` that forks our commands."""

    waiting: list[socket.socket] | None = None
    """Processes that wait to become a command; None: a server forks as many as one likes."""

    def _execute_child(self, *arguments: Any) -> None:
        bound = inspect.signature(super()._execute_child).bind(*arguments).arguments
        # Without -u: what is forked writes when it ends, or more than a buffer.
        command = [word for place, word in enumerate(bound["args"]) if (place, word) != (1, "-u")]
        files = [bound[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        ours = command[:2] == [sys.executable, "-m"] and command[2] in COMMANDS
        if not ours or self.waiting == []:
            super()._execute_child(*arguments)
            return
        request = {
            "command": [str(word) for word in command[2:]],
            "cwd": os.fspath(bound["cwd"] or os.getcwd()),
            "environment": dict(bound["env"] or os.environ),
            "session": bound["start_new_session"],
            # The one function that a command of ours gives here.
            "terminated_with_parent": bound["preexec_fn"] is not None,
            "files": [file != -1 for file in files],
        }
        place = _server() if self.waiting is None else self.waiting.pop()
        # An orphan of the server becomes a child of this process.
        adopting = self.waiting is None and ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        socket.send_fds(place, [json.dumps(request).encode()], [file for file in files if file != -1])
        self.pid = int(place.recv(64))
        if adopting:
            ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._child_created = True
        self._close_pipe_fds(*(bound[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")))


@functools.cache
def _server() -> socket.socket:
    """A process that forks commands; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_commands", str(theirs.fileno())],
            cwd=ROOT,
            # What libraries leave there as they are imported is not of the test that happens to need a command first.
            env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    assert ours.recv(64) == b"ready"
    return ours


def main() -> None:
    # Next to nothing of what modules make is garbage.
    gc.disable()
    keep_libraries_offline()
    # A run uses it, and only trainers hide it.
    import_module("sklearn.feature_extraction.text")
    with hide_packages(HIDDEN_PACKAGES):
        for module in (*_LIBRARIES, *COMMANDS.values()):
            import_module(module)
    import_module("torch").set_num_threads(1)
    # Every run reads the shipped questions, which takes a second; once read, they are kept.
    for split in get_args(Split):
        load_questions("pocket", split)
    # Pages that no collection touches stay shared with the processes that are forked.
    gc.freeze()
    gc.enable()
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.send(b"ready")
    while True:
        message, files, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 3)
        if not message:
            return
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            between = os.getpid()
            if (pid := os.fork()) != 0:
                os.write(writing, str(pid).encode())
                os._exit(0)
            for file in (reading, writing, requests.detach()):
                os.close(file)
            while os.getppid() == between:
                time.sleep(0.001)
            become(json.loads(message), files)
        os.waitpid(between, 0)
        requests.send(os.read(reading, 64))
        for file in (reading, writing, *files):
            os.close(file)


def become(request: dict[str, Any], files: list[int]) -> None:
    """Be the command of a request, to the end of this process."""
    if request["terminated_with_parent"]:
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if request["session"]:
        os.setsid()
    descriptors = iter(files)
    for number, has in enumerate(request["files"]):
        if has or number == 0:
            os.dup2(next(descriptors) if has else os.open(os.devnull, os.O_RDONLY), number)
    for file in files:
        os.close(file)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    name, *arguments = request["command"]
    module = import_module(COMMANDS[name])
    sys.argv = ["-m", *arguments]
    begin_command()
    sys.argv[0] = str(module.__file__)
    ForkingPopen.waiting = [_fork_waiting() for _ in range(_CHILDREN.get(name, 0))]
    subprocess.Popen = ForkingPopen  # type: ignore[misc]
    if name == "accelerate.commands.launch":
        # It has the class by name.
        import_module("torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler").Popen = ForkingPopen
    # What `tests.support.processes.running` looks for.
    ctypes.CDLL(None).prctl(_SET_NAME, name.encode(), 0, 0, 0)
    code: Any = 1
    try:
        if hasattr(module, "app"):
            module.run_app(module.app)
        elif hasattr(module, "run_main"):
            module.run_main(module.main)
        else:
            module.main()
            code = 0
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


def _fork_waiting() -> socket.socket:
    """Fork a process that becomes the command it is sent, and ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    if os.fork() != 0:
        theirs.close()
        return ours
    ours.close()
    if not die_with_parent(parent):
        os._exit(0)
    message, files, _, _ = socket.recv_fds(theirs, _MESSAGE_BYTES, 3)
    if not message:
        os._exit(0)
    theirs.send(str(os.getpid()).encode())
    theirs.close()
    become(json.loads(message), files)
    raise AssertionError


if __name__ == "__main__":
    main()
