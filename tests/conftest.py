"""Fixtures that several test files share: the real Docker runner."""

import asyncio

import pytest

from sandbox.docker import DockerRunner
from sandbox.runner import Limits


@pytest.fixture(scope="session")
def runner():
    """A runner on the real engine, which is started if need be, with limits short enough for tests."""
    runner = DockerRunner(Limits(wall_seconds=3, cpu_seconds=2), workers=2, run="tests")
    yield runner
    asyncio.run(runner.close())
