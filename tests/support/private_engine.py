"""A Docker engine of a test's own, so that killing it hurts nobody; whatever it leaves behind fails the test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import pytest

from sandbox.engine import engine, image_build


@contextmanager
def private_engine(*, image: bool = False) -> Iterator[engine.PrivateEngine]:
    """An engine in a new folder, not started; with `image` it is up and holds the sandbox's image."""
    if os.geteuid() != 0:
        pytest.skip("a private engine needs root")
    # A short name: Docker's sockets lie inside, and the kernel limits their paths.
    folder = Path(tempfile.mkdtemp(prefix="gasp-e"))
    private = engine.PrivateEngine(folder / "data", folder / "run")
    try:
        if image:
            private.up()
            copy_image(private)
        yield private
    finally:
        private.purge()
    assert not private.data.exists()
    assert not private.state.exists()
    assert processes_naming(str(folder)) == []
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{private.cgroup}")) == []
    shutil.rmtree(folder)


def copy_image(to: engine.PrivateEngine) -> None:
    """Copy the sandbox's image from the machine's engine, which is faster than building it once more."""
    with closing(engine.connect()) as source, closing(docker.DockerClient(base_url=to.url)) as target:
        image_build.ensure_image(source, engine.no_message)
        target.images.load(source.images.get(image_build.image_tag()).save(named=True))


def processes_naming(text: str) -> list[str]:
    """Command lines of other processes that hold a text."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in command and str(os.getpid()) != entry.name:
                processes.append(command)
    return processes
