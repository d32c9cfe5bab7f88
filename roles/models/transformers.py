"""A model that samples in this process: any folder that `AutoModelForCausalLM` loads, the pocket model included, or an adapter.

Guarantees: ids and logprobs are those of sampling. A row's random numbers depend only on its request's seed and its number in
the request, never on the batch. Logprobs are float32 whatever the dtype. Nothing is downloaded, and torch is imported only when
a model is created.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from events.facts.digests import SHORT
from events.facts.errors import ModelError
from events.facts.values import Digest
from events.facts.weights import adapter_base, weights_digest
from events.process.activity import Activity, ActivityTask
from roles.chat_encoding import ChatEncoding
from roles.model import ROWS_AT_ONCE, Completion, GenerationReply, GenerationRequest
from roles.models.sampling import sample_tokens, uniforms
from roles.models.sampling_row import RowPart, SamplingRow, Stop

if TYPE_CHECKING:
    import torch


_MARGIN = 8
"""Extra tokens that are decoded to look for a stop text, because a decoder may drop a space or a partial character at first."""


class TransformersModel:
    """Samples with the weights of a folder.

    Args:
        path: Folder in Hugging Face format, or of an adapter with its base beside it.
        policy: Its digest; other weights are refused.
        max_prompt_tokens: Longer prompts are cut from the left.
        threads: CPU threads of torch, in this whole process.
        rows: Most completions sampled together.
        device: As torch names it; by default a GPU if there is one.
        dtype: Of weights and computation.
        activity: Gets progress.

    Raises:
        ModelError: the folder cannot be loaded, or holds other weights.
    """

    def __init__(
        self,
        path: Path,
        policy: Digest,
        *,
        max_prompt_tokens: int = 384,
        threads: int = 1,
        rows: int = ROWS_AT_ONCE,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        activity: Activity | None = None,
    ) -> None:
        self._max_prompt_tokens = max_prompt_tokens
        self._threads = threads
        self._rows = rows
        self._device = device
        self._dtype = dtype
        self._activity = activity or Activity()
        self._load(path, policy)

    @property
    def policy(self) -> Digest:
        """Digest of the weights that are being served."""
        return self._policy

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        """Replace the weights by those in a folder; see `Model.load_weights`."""
        await asyncio.to_thread(self._load, weights, policy)

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Natural-log probability at temperature 1 of each of `tokens` [T] but the first, given those before it [T-1]."""
        return await asyncio.to_thread(self._logprobs_of, tokens)

    def _logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        import torch

        ids = torch.tensor([list(tokens)], device=self._model.device)
        with torch.inference_mode():
            logprobs = torch.log_softmax(self._model(input_ids=ids).logits[0, :-1].float(), dim=-1)
        return tuple(logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist())

    @property
    def encoding(self) -> ChatEncoding:
        """Its token ids."""
        return self._encoding

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Natural-log probability at temperature 1 of each whole continuation of `before` [T]; see `Model`."""
        return await asyncio.to_thread(self._continuation_logprobs, before, continuations)

    def _continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        begin = len(before) - 1
        return tuple(sum(self._logprobs_of([*before, *ids])[begin:]) for ids in continuations)

    async def sleep(self) -> None:
        """Do nothing: weights in this process are needed again soon."""

    async def close(self) -> None:
        """Do nothing: the weights belong to this process."""

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        """One reply per request, in order; see `Model.generate`."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._generate, requests, cancelled)
        finally:
            # A thread cannot be cancelled from outside: this ends its loop.
            cancelled.set()

    def _load(self, path: Path, policy: Digest) -> None:
        with self._activity.task(f"loading the weights {policy[:SHORT]}"):
            self._load_model(path, policy)

    def _load_model(self, path: Path, policy: Digest) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        from events.process.process_memory import tune_process
        from roles.models.attention import use_grouped_attention
        from roles.models.decoder_step import DecoderStep
        from roles.models.packed_linear import pack_linear_layers

        digest = weights_digest(path)
        if digest != policy:
            raise ModelError(f"Weights in {path} are {digest[:SHORT]}, not {policy[:SHORT]}; give the right folder.")
        torch.set_num_threads(self._threads)
        tune_process()
        disable_progress_bar()
        base = adapter_base(path)
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._encoding = ChatEncoding(base or path, self._max_prompt_tokens)
        try:
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                base or path, local_files_only=True, dtype=getattr(torch, self._dtype)
            ).to(device)
            if base is not None:
                # peft imports it where it is installed, and on a CPU it prints warnings.
                logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
                from peft import PeftModel

                self._model = PeftModel.from_pretrained(self._model, path).merge_and_unload()
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"Model in {path} cannot be loaded ({error}); check that it is a complete causal model."
            ) from error
        self._model.eval()
        use_grouped_attention(self._model)
        pack_linear_layers(self._model)
        self._step = DecoderStep.fitting(self._model)
        self._parameters = frozenset(inspect.signature(self._model.forward).parameters)
        if "past_key_values" not in self._parameters:
            raise ModelError(
                f"Model in {path} has no key-value cache, so it cannot be sampled in this process; set serve.backend."
            )
        self._policy = policy

    def _generate(self, requests: Sequence[GenerationRequest], cancelled: threading.Event) -> list[GenerationReply]:
        import torch

        prompts = [self._encoding.encode(request) for request in requests]
        rows = [
            SamplingRow(
                prompt, request.sampling, uniforms(request.seed, number, request.sampling.max_tokens), self._parts(request)
            )
            for request, prompt in zip(requests, prompts, strict=True)
            for number in range(request.count)
        ]
        # Rows of similar length share a batch, since padding costs time.
        order = sorted(rows, key=lambda row: (len(row.prompt) + len(row.ids), row.sampling.max_tokens))

        try:
            with torch.inference_mode(), self._sampling_task(rows) as task:
                for start in range(0, len(order), self._rows):
                    if cancelled.is_set():
                        break
                    self._sample(order[start : start + self._rows], task, cancelled)
        except RuntimeError as error:
            raise ModelError(f"Sampling with policy {self._policy[:SHORT]} failed ({error}); see the cause above.") from error
        done = iter(rows)
        return [
            GenerationReply(self._policy, prompt, tuple(self._completion(next(done)) for _ in range(request.count)))
            for request, prompt in zip(requests, prompts, strict=True)
        ]

    def _sampling_task(self, rows: Sequence[SamplingRow]) -> AbstractContextManager[ActivityTask]:
        """Progress over rows. A prompt's token takes about as long as one that is sampled."""

        def note() -> str:
            return f"{sum(len(row.ids) for row in rows):,} tokens"

        def tokens(row: SamplingRow) -> int:
            return len(row.prompt) + row.sampling.max_tokens

        def progress() -> float:
            done = (tokens(row) if row.done else len(row.prompt) + len(row.ids) for row in rows if row.ids)
            return sum(done) / sum(map(tokens, rows))

        return self._activity.task("sampling answers", len(rows), note, progress, "sampling")

    def _completion(self, row: SamplingRow) -> Completion:
        text = self._encoding.decode(row.ids[:-1] if row.stop == "end" else row.ids)
        sampled = () if all(row.sampled) else tuple(row.sampled)
        return Completion(text, tuple(row.ids), tuple(row.logprobs), row.stop, sampled)

    def _parts(self, request: GenerationRequest) -> deque[RowPart]:
        """The parts of a request's completions; one without given text where the model writes them whole."""

        def encoded(text: str) -> list[int]:
            return self._encoding.encode_text(text)

        stops = request.sampling.stop
        return deque(
            [RowPart(encoded(part.given), (*part.stops, *stops), encoded(part.stops[0])) for part in request.parts]
        ) or deque([RowPart([], stops, [])])

    def _stop(self, row: SamplingRow) -> Stop:
        """Why the row's last token ends its part; `length` unless it does."""
        if not row.sampled[-1]:
            return "length"
        if row.ids[-1] in self._encoding.ends:
            return "end"
        if not row.stops:
            return "length"
        # A token has at least one byte, so a new stop text lies within so many tokens.
        reach = max(len(text.encode()) for text in row.stops) + _MARGIN
        tail = self._encoding.decode(row.ids[max(row.begin, len(row.ids) - reach) :])
        return "text" if any(text in tail for text in row.stops) else "length"

    def _sample(self, rows: list[SamplingRow], task: ActivityTask, cancelled: threading.Event) -> None:
        import torch

        cache, mask, logits = self._prefill(rows)
        alive = list(rows)
        while not cancelled.is_set():
            chosen, logprobs = sample_tokens(logits, [row.sampling for row in alive], [row.uniform for row in alive])
            for number, (row, token, logprob) in enumerate(zip(alive, chosen.tolist(), logprobs.tolist(), strict=True)):
                if row.done:
                    continue
                taken = row.take(token, logprob)
                given = row.end_part(self._stop(row))
                if given is not None or taken != token:
                    chosen[number] = taken if given is None else given
                task.add(row.done)
            keep = [i for i, row in enumerate(alive) if not row.done]
            if not keep:
                return
            # Dropping rows copies the cache, so finished rows stay until they are a quarter of the batch.
            if len(keep) <= 0.75 * len(alive):
                index = torch.tensor(keep, device=mask.device)
                cache.batch_select_indices(index)
                mask, chosen = mask[index], chosen[index]
                alive = [alive[i] for i in keep]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            logits = self._forward(chosen[:, None], mask, cache)

    def _prefill(self, rows: list[SamplingRow]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Cache, mask [B, T] and next-token logits [B, vocabulary] of all rows; each distinct prompt is computed once."""
        import torch

        from roles.models.kv_cache import preallocated_cache

        texts = [(*row.prompt, *row.ids) for row in rows]
        distinct = list(dict.fromkeys(texts))
        longest = max(len(p) for p in distinct)
        ids = torch.zeros((len(distinct), longest), dtype=torch.long)
        mask = torch.zeros((len(distinct), longest), dtype=torch.long)
        for i, prompt in enumerate(distinct):
            # Padded on the left, so that the last column has every row's newest token.
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            mask[i, longest - len(prompt) :] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        cache = preallocated_cache(self._model.config)
        logits = self._forward(ids, mask, cache)
        row_of = {prompt: i for i, prompt in enumerate(distinct)}
        index = torch.tensor([row_of[text] for text in texts], device=mask.device)
        cache.batch_select_indices(index)
        return cache, mask[index], logits[index]

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits [B, vocabulary] after the new `ids` [B, T]; `mask` [B, S + T] covers the S cached tokens, too."""
        if self._step is not None and ids.shape[1] == 1:
            return self._step(ids[:, 0], mask, cache)
        more: dict[str, Any] = {}
        if "position_ids" in self._parameters:
            # Positions count tokens, not padding, so that a row's result does not depend on its batch.
            more["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._parameters:
            # Only the last is sampled from, and logits of a whole prompt may take more memory than its cache.
            more["logits_to_keep"] = 1
        logits: torch.Tensor = self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more
        ).logits
        return logits[:, -1]
