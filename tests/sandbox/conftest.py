"""A persistent interpreter that the tests of a file share."""

import pytest

from sandbox.interpreter import Sandbox
from sandbox.interpreter.client import LIMITS

SMALL = LIMITS.model_copy(update={"memory_mb": 128, "output_kb": 64, "scratch_mb": 8, "file_mb": 8, "processes": 16})
"""Limits of an interpreter that a test may exhaust."""


@pytest.fixture(scope="module")
def shared():
    with Sandbox.create(limits=SMALL, run="tests-interpreter", envs={"GREETING": "hello"}) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared):
    """Whatever the test before did: an empty namespace and an empty folder."""
    shared.restart_code_context("default")
    for entry in shared.files.list("/tmp"):
        shared.files.remove(entry.path)
    return shared


def alive(sandbox):
    return sandbox.run_code("1 + 1").text == "2"
