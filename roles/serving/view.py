"""Shows a weights folder to vLLM without the optimizer's state, which it would take for more weights.

Law: what is shown are the folder's own files, by links. It copies nothing and writes nothing there.
"""

from __future__ import annotations

from pathlib import Path

from events.weights import OPTIMIZER


def view(weights: Path, folder: Path) -> Path:
    """The weights as seen in `folder`, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in weights.resolve().iterdir():
        link = folder / file.name
        if file.name != OPTIMIZER and not link.is_symlink():
            link.symlink_to(file)
    return folder
