"""Downloads distribution packages (Debian, Ubuntu) with apt-get and unpacks them, without installing them.

Guarantees: nothing outside the given folders changes, except that `apt-get update` may refresh the package lists.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from events.facts.errors import SandboxError

_APT_SECONDS = 600


def available() -> bool:
    """Whether this machine has apt-get and dpkg-deb."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb"))


def fetch_missing(names: Sequence[str], folder: Path) -> list[Path]:
    """Download the packages and those of their dependencies that are not installed here. Needs root."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    install = ["install", "-y", "--download-only", "--no-install-recommends"]
    _apt([*install, "-o", f"Dir::Cache::archives={folder}", "-o", "DPkg::Lock::Timeout=300", *names], folder)
    return sorted(folder.glob("*.deb"))


def fetch_exactly(names: Sequence[str], folder: Path) -> list[Path]:
    """Download these packages and no others. Needs no root."""
    folder.mkdir(parents=True, exist_ok=True)
    _apt(["download", *names], folder)
    return sorted(folder.glob("*.deb"))


def unpack(packages: Sequence[Path], target: Path) -> None:
    """Unpack the files of packages into a folder, owned by the caller."""
    target.mkdir(parents=True, exist_ok=True)
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, target], check=True, capture_output=True)


def _apt(arguments: Sequence[str], folder: Path) -> None:
    """Run apt-get; on failure refresh the lists and try once more, since stale lists name packages that no longer exist."""
    # Otherwise apt-get drops to a user of its own, who cannot write into our folder.
    sandboxed = ["-q", "-o", "APT::Sandbox::User=root"]
    for attempt in (1, 2):
        done = subprocess.run(
            ["apt-get", *sandboxed, *arguments], cwd=folder, capture_output=True, text=True, timeout=_APT_SECONDS, check=False
        )
        if done.returncode == 0:
            return
        if attempt == 1:
            subprocess.run(["apt-get", *sandboxed, "update"], capture_output=True, timeout=_APT_SECONDS, check=False)
    reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    raise SandboxError(
        f"apt-get {arguments[0]} of {', '.join(arguments[-3:])} failed: {' '.join(reason)}; "
        "check the package mirrors, or point DOCKER_HOST at a Docker engine."
    )
