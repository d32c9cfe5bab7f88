"""A model that vLLM servers sample from: full weights that they load, or adapters on a base that they hold.

Guarantees: ids and logprobs are those of sampling; every response is validated (`vllm_protocol`). Not responsible for: starting
servers (`roles.serving`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from events.facts.digests import SHORT
from events.facts.errors import ModelError
from events.facts.values import Digest, Sampling
from events.facts.weights import adapter_base, weights_digest
from events.text.secrets import mask
from roles.chat_encoding import ChatEncoding
from roles.model import Completion, GenerationReply, GenerationRequest
from roles.models.replicas import Replicas, gather_or_cancel
from roles.models.vllm_protocol import (
    COMPLETIONS_PATH,
    CompletionChoice,
    completion_choices,
    completion_request,
    invalid_response,
    scored_logprob,
    scoring_request,
)

OTHERS_WAIT_S: Final = 600.0
"""Seconds that a change of weights waits for requests of other processes of the same run."""
_SEED_STEP: Final = 0x9E3779B97F4A7C15
"""Between the seeds of a completion's parts; the completions of one request are closer to each other."""


class VllmModel:
    """One policy, served by replicas; several policies may share replicas if all are adapters.

    Args:
        replicas: The servers; until `load_weights`, the policy is the weights that they hold.
        weights: Folder of those weights, or a copy of it, for the tokenizer.
        max_prompt_tokens: Longer prompts are cut from the left.
        drift: Most nats that the replicas' logprobs of a token may differ.
        run: What processes that share these servers call their run, part of the names of adapters; empty: nobody shares them.
        loads: Whether this process has servers load weights; otherwise another one does, and `load_weights` only takes note.

    Raises:
        ModelError: the folder holds no tokenizer.
    """

    def __init__(
        self,
        replicas: Replicas,
        weights: Path,
        *,
        max_prompt_tokens: int = 384,
        drift: float = 0.02,
        run: str = "",
        loads: bool = True,
    ) -> None:
        self._replicas = replicas
        self._encoding = ChatEncoding(weights, max_prompt_tokens)
        self._drift = drift
        self._policy = replicas.holds
        self._adapter: str | None = None
        # Part of the adapter's name: another client may load and unload the same adapter.
        self._suffix = run or uuid.uuid4().hex[:8]
        self._others_wait_s = OTHERS_WAIT_S if run else 0.0
        self._loads = loads

    @property
    def policy(self) -> Digest:
        """Digest of the weights that are being served."""
        return self._policy

    @property
    def _name(self) -> str:
        return self._adapter or self._replicas.name

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[GenerationReply]:
        """One reply per request, in order; ModelError if a server failed, or sent an invalid response."""
        replies: list[GenerationReply | None] = [None] * len(requests)
        waiting = iter(enumerate(requests))
        total = sum(request.count for request in requests)
        with self._replicas.activity.task("sampling answers", total, lambda: self._replicas.note, phase="sampling") as task:

            async def work() -> None:
                for number, request in waiting:
                    replies[number] = await self._complete(request)
                    task.add(request.count)

            await gather_or_cancel(work() for _ in range(min(len(requests), self._replicas.slots)))
        return [reply for reply in replies if reply is not None]

    async def load_weights(self, weights: Path, policy: Digest) -> None:
        """Make every server load other weights, or another adapter of the same base.

        Raises:
            ModelError: the folder holds other weights, the adapter has another base, or a server did not load them.
        """
        if not self._loads:
            self._adopt(policy)
            return
        digest, base = await asyncio.to_thread(lambda: (weights_digest(weights), adapter_base(weights)))
        if digest != policy:
            raise ModelError(f"Weights in {weights} are {digest[:SHORT]}, not {policy[:SHORT]}; give the right folder.")
        before = self._adapter
        if base is None:
            await self._replicas.load(weights, policy, self._others_wait_s)
            self._adapter = None
        else:
            holds = self._replicas.holds
            if base.name != holds:
                raise ModelError(
                    f"The adapter {policy[:SHORT]} has the base {base.name[:SHORT]}, but the servers hold {holds[:SHORT]}; "
                    "start them with the adapter's base."
                )
            self._adapter = self._adapter_name(policy)
            # In place, so that loading it twice is no error.
            body = {"lora_name": self._adapter, "lora_path": str(weights.resolve()), "load_inplace": True}
            await self._replicas.ask_all("/v1/load_lora_adapter", body)
        self._policy = policy
        if before not in (None, self._adapter):
            await self._replicas.ask_all("/v1/unload_lora_adapter", {"lora_name": before}, absent_ok=True)

    def _adopt(self, policy: Digest) -> None:
        """Sample with weights that another process has had the servers load; whether it did shows in `logprobs_of`."""
        self._adapter = self._adapter_name(policy) if self._replicas.holds not in ("", policy) else None
        self._policy = policy

    def _adapter_name(self, policy: Digest) -> str:
        return f"{policy[:16]}-{self._suffix}"

    async def logprobs_of(self, tokens: Sequence[int]) -> tuple[float, ...]:
        """Natural-log probability at temperature 1 of each of `tokens` [T] but the first, given those before it [T-1].

        All servers score them; the result is that of the server which differs most from the median.

        Raises:
            ModelError: a server failed, or has other weights than the others.
        """
        salt = uuid.uuid4().hex
        scores = await gather_or_cancel(self._score(tokens[:end], tokens[end], salt) for end in range(1, len(tokens)))
        logprobs = {url: tuple(score[url] for score in scores) for url in (scores[0] if scores else ())}
        medians = [sorted(values)[len(values) // 2] for values in zip(*logprobs.values(), strict=True)]
        distances = {
            url: max(abs(value - median) for value, median in zip(values, medians, strict=True))
            for url, values in logprobs.items()
        }
        outlier = max(distances, key=lambda url: distances[url], default="")
        if outlier and distances[outlier] > self._drift:
            raise ModelError(
                f"vLLM at {mask(outlier)} has other weights than the others: "
                f"logprobs differ by up to {distances[outlier]:.3g}; restart the servers."
            )
        # A check that holds for the outlier holds for all servers.
        return logprobs.get(outlier, ())

    @property
    def encoding(self) -> ChatEncoding:
        """Its token ids."""
        return self._encoding

    async def continuation_logprobs(self, before: Sequence[int], continuations: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Natural-log probability at temperature 1 of each whole continuation of `before` [T]; see `Model`.

        One server scores each token; what the tokens follow stays in its cache.
        """

        async def score(ids: Sequence[int]) -> float:
            texts = [*before, *ids]
            places = range(len(before), len(texts))
            return sum(await gather_or_cancel(self._next_logprob(texts[:end], texts[end]) for end in places))

        return tuple([await score(ids) for ids in continuations])

    async def _next_logprob(self, before: Sequence[int], token: int) -> float:
        name = self._name
        url, content = await self._replicas.ask(COMPLETIONS_PATH, scoring_request(name, before, token))
        return scored_logprob(url, content, name, token)

    async def _score(self, before: Sequence[int], token: int, salt: str) -> dict[str, float]:
        """The logprob of the next token, by server."""
        name = self._name
        # A unique salt: no prefix that is cached from other weights is used.
        body = {**scoring_request(name, before, token), "cache_salt": salt}
        answers = await self._replicas.ask_all(COMPLETIONS_PATH, body)
        return {url: scored_logprob(url, content, name, token) for url, content in answers}

    async def sleep(self) -> None:
        """Release the servers' GPU memory until the next request, where that is configured."""
        if self._loads:
            await self._replicas.sleep()

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
        await self._replicas.close()

    async def _complete(self, request: GenerationRequest) -> GenerationReply:
        policy, prompt = self._policy, self._encoding.encode(request)
        # vLLM refuses several greedy completions, which would all be equal.
        count = request.count if request.sampling.temperature > 0 else 1
        completions = await self._sample(prompt, Completion("", (), (), "text"), count, request.seed, request, 0)
        for part in range(1, len(request.parts)):
            seeds = [request.seed + _SEED_STEP * part + row for row in range(count)]
            completions = [
                longer
                for longers in await gather_or_cancel(
                    self._sample(prompt, completion, 1, seed, request, part)
                    for completion, seed in zip(completions, seeds, strict=True)
                )
                for longer in longers
            ]
        return GenerationReply(policy, prompt, tuple(completions if count == request.count else completions * request.count))

    async def _sample(
        self, prompt: tuple[int, ...], begun: Completion, count: int, seed: int, request: GenerationRequest, part: int
    ) -> list[Completion]:
        """`count` continuations of a completion by a part; the completion itself where it ended before or has no room."""
        sampling, stops = request.sampling, request.sampling.stop
        if begun.stop == "length":
            return [begun] * count
        if request.parts:
            stops = (*request.parts[part].stops, *stops)
            begun = self._give(begun, request.parts[part - 1].stops[0] if part else "", request.parts[part].given, sampling)
        room = sampling.max_tokens - len(begun.token_ids)
        if room <= 0:
            return [begun] * count
        name, read = self._name, [*prompt, *begun.token_ids]
        body = completion_request(
            name, read, sampling, count=count, seed=seed, max_tokens=room, stops=stops, end_tokens=self._encoding.ends
        )
        url, content = await self._replicas.ask(COMPLETIONS_PATH, body)
        return [self._completion(url, begun, choice) for choice in completion_choices(url, content, name, read, count)]

    def _give(self, completion: Completion, ending: str, given: str, sampling: Sampling) -> Completion:
        """The completion with a given text, which has the stop text of the part before where that ended with the end token."""
        kept = len(completion.token_ids) - (completion.stop == "end")
        ids = self._encoding.encode_text(ending) if completion.stop == "end" else []
        ids = [*ids, *self._encoding.encode_text(given)][: sampling.max_tokens - kept]
        return Completion(
            "",
            (*completion.token_ids[:kept], *ids),
            (*completion.logprobs[:kept], *[0.0] * len(ids)),
            "length",
            (*(completion.sampled or [True] * kept)[:kept], *[False] * len(ids)),
        )

    def _completion(self, url: str, begun: Completion, choice: CompletionChoice) -> Completion:
        """The completion that was begun, with what the server sampled after it."""
        ids, logprobs = choice.token_ids, choice.logprobs.token_logprobs
        ended = bool(ids) and ids[-1] in self._encoding.ends
        stop: Literal["end", "text", "length"] = "end" if ended else "length"
        if choice.finish_reason == "stop" and not ended:
            stop = "text"
            if not isinstance(choice.stop_reason, str):
                raise invalid_response(
                    url, "it ends with a token that does not end the model's texts; is its generation config another?"
                )
        if not ids or len(logprobs) != len(ids):
            raise invalid_response(url, f"it gives {len(logprobs)} logprobs of {len(ids)} tokens")
        whole = (*begun.token_ids, *ids)
        return Completion(
            self._encoding.decode(whole[:-1] if ended else whole),
            whole,
            (*begun.logprobs, *logprobs),
            stop,
            (*begun.sampled, *[True] * len(ids)) if begun.sampled else (),
        )
