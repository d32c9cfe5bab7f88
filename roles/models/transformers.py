"""A model that samples in this process: any folder that `AutoModelForCausalLM` loads, the pocket model included, or an adapter.

Law: ids and logprobs are those of sampling, and a row's randomness depends on its request's seed and its place in the
request only, never on the batch around it. It never downloads, and loads torch only when a model is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from events.errors import ModelError
from events.values import Digest, Sampling
from events.weights import base_of, weights_digest
from roles.model import Completion, Reply, Request

if TYPE_CHECKING:
    import torch


@dataclass
class _Row:
    """One completion while it is being sampled."""

    prompt: tuple[int, ...]
    sampling: Sampling
    uniforms: np.ndarray[Any, np.dtype[np.float64]]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: str = "length"

    @property
    def done(self) -> bool:
        return self.stop == "end" or len(self.ids) >= self.sampling.max_tokens


class TransformersModel:
    """Serves the weights of a folder.

    Args:
        path: Folder in Hugging Face format, or that of an adapter with its base beside it.
        policy: Its digest; other weights are refused.
        max_prompt_tokens: Longer prompts are cut from the left.
        threads: OpenMP threads of this process; more than one is slower on shared cores.
        rows: Most completions sampled together.

    Raises:
        ModelError: the folder cannot be loaded, or holds other weights.
    """

    def __init__(self, path: Path, policy: Digest, *, max_prompt_tokens: int = 384, threads: int = 1, rows: int = 256) -> None:
        self._max_prompt_tokens = max_prompt_tokens
        self._threads = threads
        self._rows = rows
        self._load(path, policy)

    @property
    def policy(self) -> Digest:
        """Digest of the weights that are being served."""
        return self._policy

    async def serve(self, weights: Path, policy: Digest) -> None:
        """Load other weights and prove that they are in use.

        Raises:
            ModelError: the weights are missing or their digest is not `policy`.
        """
        await asyncio.to_thread(self._load, weights, policy)

    async def fingerprint(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Natural-log probability, at temperature 1, of each token but the first after those before it."""
        return await asyncio.to_thread(self._fingerprint, tokens)

    def _fingerprint(self, tokens: Sequence[int]) -> tuple[float, ...]:
        import torch

        ids = torch.tensor([list(tokens)])
        with torch.inference_mode():
            logprobs = torch.log_softmax(self._model(input_ids=ids).logits[0, :-1].float(), dim=-1)
        return tuple(logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist())

    async def rest(self) -> None:
        """Keep everything: weights in this process are needed again soon."""

    async def close(self) -> None:
        """Nothing to let go of that the process does not hold anyway."""

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer every request, in order, all in one batch.

        Raises:
            ModelError: sampling failed.
        """
        return await asyncio.to_thread(self._generate, requests)

    def _load(self, path: Path, policy: Digest) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        found = weights_digest(path)
        if found != policy:
            raise ModelError(f"Weights in {path} are {found[:12]}, but {policy[:12]} was asked for; give the right folder")
        torch.set_num_threads(self._threads)
        disable_progress_bar()
        base = base_of(path)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(base or path, local_files_only=True)
            self._model: Any = AutoModelForCausalLM.from_pretrained(base or path, local_files_only=True, dtype=torch.float32)
            if base is not None:
                # peft imports it where it is installed, and it tells the screen what it would like to have on a CPU.
                logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
                from peft import PeftModel

                self._model = PeftModel.from_pretrained(self._model, path).merge_and_unload()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"Model in {path} cannot be loaded ({error}); is it a causal model, and whole?") from error
        self._model.eval()
        ends = self._model.generation_config.eos_token_id if self._model.generation_config else None
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._policy = policy

    def _generate(self, requests: Sequence[Request]) -> list[Reply]:
        import torch

        prompts = [self._encode(r.prompt) for r in requests]
        rows = [
            _Row(prompt, r.sampling, uniforms(r.seed, place, r.sampling.max_tokens))
            for r, prompt in zip(requests, prompts, strict=True)
            for place in range(r.count)
        ]
        # Rows of like length share a batch: padding is work for nothing.
        order = sorted(rows, key=lambda row: (len(row.prompt), row.sampling.max_tokens))
        try:
            with torch.inference_mode():
                for start in range(0, len(order), self._rows):
                    self._sample(order[start : start + self._rows])
        except RuntimeError as error:
            raise ModelError(f"Sampling with policy {self._policy[:12]} failed ({error}); see the cause above") from error
        done = iter(rows)
        return [
            Reply(self._policy, prompt, tuple(self._completion(next(done)) for _ in range(request.count)))
            for request, prompt in zip(requests, prompts, strict=True)
        ]

    def _encode(self, prompt: str) -> tuple[int, ...]:
        # Statements come from strangers: `<|end|>` in a text must not become the end token.
        ids = self._tokenizer(prompt, split_special_tokens=True, verbose=False)["input_ids"][-self._max_prompt_tokens :]
        return tuple(ids or [self._tokenizer.eos_token_id])

    def _completion(self, row: _Row) -> Completion:
        ids = row.ids[:-1] if row.stop == "end" else row.ids
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        stop = "end" if row.stop == "end" else "length"
        return Completion(text, tuple(row.ids), tuple(row.logprobs), stop)  # type: ignore[arg-type]  # both literals

    def _sample(self, rows: list[_Row]) -> None:
        import torch

        cache, mask, logits = self._prefill(rows)
        alive = list(rows)
        while True:
            chosen, logprobs = draw(logits, alive)
            for row, token, logprob in zip(alive, chosen.tolist(), logprobs.tolist(), strict=True):
                if row.done:
                    continue
                row.ids.append(token)
                row.logprobs.append(logprob)
                if token in self._ends:
                    row.stop = "end"
            keep = [i for i, row in enumerate(alive) if not row.done]
            if not keep:
                return
            # Dropping rows copies the cache, so finished rows stay until they are a quarter of the batch.
            if len(keep) <= 0.75 * len(alive):
                index = torch.tensor(keep)
                cache.batch_select_indices(index)
                mask, chosen = mask[index], chosen[index]
                alive = [alive[i] for i in keep]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            position = mask.sum(dim=1, keepdim=True) - 1
            logits = self._model(
                input_ids=chosen[:, None], attention_mask=mask, position_ids=position, past_key_values=cache
            ).logits[:, -1]

    def _prefill(self, rows: list[_Row]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Cache, mask and next-token logits of all rows; each distinct prompt is computed once."""
        import torch
        from transformers import DynamicCache

        distinct = list(dict.fromkeys(row.prompt for row in rows))
        longest = max(len(p) for p in distinct)
        ids = torch.zeros((len(distinct), longest), dtype=torch.long)
        mask = torch.zeros((len(distinct), longest), dtype=torch.long)
        for i, prompt in enumerate(distinct):
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            mask[i, longest - len(prompt) :] = 1
        cache = DynamicCache(config=self._model.config)
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=cache,
            logits_to_keep=1,
        )
        place = {prompt: i for i, prompt in enumerate(distinct)}
        index = torch.tensor([place[row.prompt] for row in rows])
        cache.batch_select_indices(index)
        return cache, mask[index], output.logits[index, -1]


def uniforms(seed: int, row: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random numbers of one row: counter-based, so that they depend on seed and row alone."""
    key = np.array([seed % 2**64, row], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def draw(logits: torch.Tensor, rows: Sequence[_Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Next ids and their logprobs under each row's sampling, by inversion of the cumulative distribution."""
    import torch

    temperature = torch.tensor([row.sampling.temperature for row in rows])[:, None]
    scaled = logits.float() / torch.where(temperature > 0, temperature, torch.ones(()))
    greedy = scaled.argmax(dim=-1)
    if any(row.sampling.top_p < 1 for row in rows):
        scaled = _nucleus(scaled, torch.tensor([row.sampling.top_p for row in rows])[:, None])
    logprobs = torch.log_softmax(scaled, dim=-1)
    steps = [min(len(row.ids), len(row.uniforms) - 1) for row in rows]
    u = torch.tensor([row.uniforms[step] for row, step in zip(rows, steps, strict=True)], dtype=torch.float64)
    heights = logprobs.double().exp().cumsum(dim=-1)
    drawn = torch.searchsorted(heights, (u * heights[:, -1])[:, None], right=True)[:, 0]
    chosen = torch.where(temperature[:, 0] > 0, drawn.clamp(max=logits.shape[-1] - 1), greedy)
    return chosen, logprobs.gather(1, chosen[:, None])[:, 0]


def _nucleus(scaled: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Logits outside the smallest set of ids that holds `top_p` of the mass become minus infinity."""
    import torch

    ordered, index = scaled.sort(dim=-1, descending=True)
    mass = torch.softmax(ordered, dim=-1)
    outside = (mass.cumsum(dim=-1) - mass >= top_p) & (top_p < 1)
    return scaled.masked_fill(torch.zeros_like(outside).scatter(1, index, outside), float("-inf"))
