"""Text embeddings by a bidirectional encoder in a folder: sentence-transformers' or plain Hugging Face format.

Guarantees: within the encoder's window, vectors are those of sentence-transformers. A longer text is read in windows, and
none of it is cut off. Numbers are float64, so that recorded similarities do not depend on batches or threads.

Not responsible for: encoders with further layers, prompts, or pooling other than the mean or the first token; they are refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from events.facts.errors import ModelError
from events.facts.weights import weights_digest
from events.text.safe_text import one_line

BATCH: Final = 16
"""Windows that are read at once."""
_KNOWN_PARTS: Final = ("Transformer", "Pooling", "Normalize")
_POOLING: Final = {"mean": "mean", "pooling_mode_mean_tokens": "mean", "cls": "cls", "pooling_mode_cls_token": "cls"}
_LOAD_ERRORS: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


class EncoderEmbedding:
    """Pooled last hidden states of an encoder, computed on the CPU of this process.

    Texts longer than the window are split into windows, each with special tokens of its own; the mean is taken over all tokens
    of all windows.

    Raises:
        ModelError: the folder cannot be loaded, is no encoder, or says to pool in a way that is not done here.
    """

    def __init__(self, folder: Path) -> None:
        self._pooling = _pooling(folder)
        limits = _read_json(folder, "sentence_bert_config.json", {})
        self._lower = bool(limits.get("do_lower_case"))
        self._tokenizer, self._model = _load(folder)
        self.digest: str | None = weights_digest(folder)
        """SHA-256 (hex) of weights, config and tokenizer."""
        self.window: int = limits.get("max_seq_length") or min(
            self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512)
        )
        """Most tokens that are read together, special tokens included."""
        _refuse_causal(folder, self._model, self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Rows of unit length, float64, dense [N, hidden size]."""
        import torch

        windows = self._tokenizer(
            [text.lower() for text in texts] if self._lower else list(texts),
            truncation=True,
            max_length=self.window,
            return_overflowing_tokens=True,
            padding=False,
        )
        ids, owners = windows["input_ids"], windows["overflow_to_sample_mapping"]
        totals = torch.zeros(len(texts), self._model.config.hidden_size, dtype=torch.float64)
        # Windows of similar length share a batch, which saves padding.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            totals.index_add_(0, torch.tensor([owners[index] for index in batch]), self._pool([ids[index] for index in batch]))
        return torch.nn.functional.normalize(totals, dim=1).numpy()

    def _pool(self, ids: Sequence[Sequence[int]]) -> Any:
        """Sums over the tokens of each window [B, hidden size]; with `cls`, the first token's state times their number."""
        import torch

        lengths = torch.tensor([len(row) for row in ids])
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        with torch.inference_mode():
            states = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        if self._pooling == "cls":
            return states[:, 0] * lengths[:, None]
        return (states * mask[..., None]).sum(dim=1)


def _load(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model, in float64."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    quiet = {"local_files_only": True, "trust_remote_code": False}
    try:
        logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(folder, **quiet)
        model, report = AutoModel.from_pretrained(folder, dtype=torch.float64, output_loading_info=True, **quiet)
    except (*_LOAD_ERRORS, SafetensorError) as error:
        raise ModelError(
            f"The encoder in {folder} cannot be loaded ({one_line(str(error), 200)}); check that config.json, tokenizer.json"
            " and model.safetensors are there and belong together."
        ) from error
    # The pooler is a layer on top that is not used here; checkpoints often lack it.
    if missing := sorted(name for name in report["missing_keys"] if "pooler" not in name):
        raise ModelError(f"The weights in {folder} lack {missing[0]}, so it is no complete encoder; download it anew.")
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) < 2:
        raise ModelError(f"The tokenizer in {folder} has no tokenizer.json, so texts cannot be read in windows; save it anew.")
    return tokenizer, model.eval()


def _refuse_causal(folder: Path, model: Any, tokenizer: Any) -> None:
    """ModelError unless the first token's state depends on the last token."""
    import torch

    # Two texts that differ in their last token only.
    ids = torch.tensor([[0, 0, 0], [0, 0, len(tokenizer) - 1]])
    states = None
    with torch.inference_mode(), contextlib.suppress(*_LOAD_ERRORS):
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    if states is None or states.shape[1] != ids.shape[1]:
        raise ModelError(f"The model in {folder} is no text encoder; give a BERT-like encoder such as all-MiniLM-L6-v2.")
    if torch.allclose(states[0, 0], states[1, 0], rtol=1e-9):
        raise ModelError(
            f"The model in {folder} is a causal language model, whose tokens do not see what follows; give a BERT-like encoder"
            " such as all-MiniLM-L6-v2."
        )


def _pooling(folder: Path) -> str:
    """`mean` or `cls`, as sentence-transformers' files say; `mean` where there are none. ModelError if they say more."""
    pooling = "mean"
    for part in _read_json(folder, "modules.json", []):
        name = str(part["type"]).rpartition(".")[2]
        if name not in _KNOWN_PARTS:
            raise ModelError(f"The encoder in {folder} has a layer {name}, which is not computed here; give one without it.")
        if name == "Pooling":
            says = _read_json(folder, f"{part['path']}/config.json", {})
            modes = [key for key, value in says.items() if key.startswith("pooling_mode_") and value] or [
                says.get("pooling_mode", "mean")
            ]
            if len(modes) != 1 or modes[0] not in _POOLING:
                raise ModelError(
                    f"The encoder in {folder} pools by {' and '.join(map(str, modes))}; give one that takes the mean."
                )
            pooling = _POOLING[modes[0]]
    prompt = _read_json(folder, "config_sentence_transformers.json", {}).get("default_prompt_name")
    if prompt:
        raise ModelError(f"The encoder in {folder} puts a prompt {prompt!r} before texts; give one without, or unset it there.")
    return pooling


def _read_json(folder: Path, name: str, default: Any) -> Any:
    """The content of a JSON file, the default if there is none; ModelError if it is damaged."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / name} cannot be read as JSON ({one_line(str(error), 100)}); download it anew.") from error
    if not isinstance(content, type(default)):
        raise ModelError(f"{folder / name} is not what sentence-transformers writes; download it anew.")
    return content
