"""Versions and commit of the code that starts a run, for its first event."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from graph.settings.config import Config
from graph.settings.threads import threads_of

PACKAGES = "torch transformers trl tokenizers numpy langgraph pydantic sqlmodel docker scikit-learn".split()
"""Packages whose version can change a result."""


def versions(config: Config, weights: Path) -> dict[str, str]:
    """Versions that can change a result, and the number of threads where it is not one."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    threads = threads_of(config, weights, processes=config.learn.processes)
    return versions if threads == 1 else {**versions, "threads": str(threads)}


def commit() -> str:
    """The git commit of the code, or `unknown`."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
