"""Finds the weights folder that the setting `model` names: the pocket model, a folder, a model of the hub, or a GGUF file.

Guarantees: from the hub only weights, configuration and tokenizer are fetched, never code; offline the local cache is used.
"""

from __future__ import annotations

import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from events.facts.errors import BadInput
from events.facts.weights import ADAPTER_CONFIG_FILE
from events.text.safe_text import one_line
from graph.settings.gguf_folder import converted_folder, is_converted, is_gguf
from roles.questions.pocket_folders import POCKET_FOLDERS

HUB_FILES: Final = ("*.safetensors", "*.json", "merges.txt", "vocab.txt", "tokenizer*", "*.jinja")
"""Files that are fetched of a model of the hub."""
_HUB: Final = re.compile(
    r"(?P<name>(?![^@]*(--|\.\.))(?![^@]{97})\w([\w.-]*\w)?/\w([\w.-]*\w)?)(@(?P<revision>[\w./-]+))?", re.ASCII
)
"""Names that the hub allows; `./x` and `../x` are folders."""


def model_folder(spec: str) -> Path:
    """The weights folder that `model` names, fetched from the hub if need be; BadInput if it or a file of it is missing."""
    if spec in POCKET_FOLDERS:
        return POCKET_FOLDERS[spec] / "weights"
    match = _HUB.fullmatch(spec)
    folder = Path(spec).expanduser()
    if is_gguf(spec):
        folder = converted_folder(folder)
    elif match and not folder.is_dir():
        folder = _fetched(match["name"], match["revision"])
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"There is no model in {spec!r}: a folder with config.json is expected, a GGUF file, or a name of the hub such as"
            " Qwen/Qwen2.5-Coder-7B; check --set model=..."
        )
    if not (folder / "tokenizer.json").is_file() and not (folder / ADAPTER_CONFIG_FILE).is_file():
        raise BadInput(f"The model in {folder} has no tokenizer.json; save its tokenizer there in the fast format.")
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="np"):
                pass
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} is not whole ({error}); copy the model again.") from error
    return folder


def local_model_folder(spec: str) -> Path | None:
    """Like `model_folder`, but fetches and converts nothing; None where it would have to."""
    if is_gguf(spec):
        return None
    match = _HUB.fullmatch(spec)
    if not match or Path(spec).expanduser().is_dir():
        return model_folder(spec)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    config = try_to_load_from_cache(match["name"], "config.json", revision=match["revision"])
    return Path(config).parent if isinstance(config, str) else None


def _fetched(name: str, revision: str | None) -> Path:
    try:
        from httpx import HTTPError
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise BadInput(f"To fetch {name} from the hub, `pip install 'gasp[local]'`, or give a folder.") from error
    what = name if revision is None else f"{name} at {revision}"
    why: Exception | None = None
    for local in (False, True):
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES), local_files_only=local))
        except (HTTPError, OSError, ValueError) as error:
            why = why or error
    if not isinstance(why, HTTPError):
        raise BadInput(
            f"There is no folder {name}, and the model {what} is neither in the local cache nor can it be fetched (no network,"
            f" or HF_HUB_OFFLINE is set); run `hf download {name}` once where there is one, or give a folder."
        ) from why
    reason = one_line(str(why).strip().partition("\n")[0], 200)
    raise BadInput(f"The hub does not give {what}: {reason}; check the name and, where it asks for one, your token.") from why


def copy_weights(source: Path, folder: Path) -> None:
    """Copy weights into a run.

    Files in the hub's cache and converted ones are never rewritten, so hard links are enough; files of other folders may change
    and are copied.
    """
    copy = partial(_link_or_copy, fixed=is_converted(source))
    shutil.copytree(source, folder, copy_function=copy, ignore=shutil.ignore_patterns("*.md", ".*"))


def _link_or_copy(source: str, target: str, *, fixed: bool) -> None:
    if fixed or os.path.islink(source):
        try:
            os.link(os.path.realpath(source), target)
            return
        except OSError:
            # Another file system, or one without hard links.
            pass
    shutil.copy2(source, target)
