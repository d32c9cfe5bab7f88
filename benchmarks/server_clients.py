"""Completions requested of one vLLM server by our client and by vLLM's own benchmark client.

Both send the same prompts with the same seeds, keep as many completions in flight, and must get the same number of tokens for
each; the server's prefix cache is reset before.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from benchmarks.sampling_contest import SEED, lengths
from events.facts.errors import ModelError
from events.facts.values import Sampling
from events.facts.weights import weights_digest
from events.text.safe_text import one_line
from roles.chat_encoding import ChatEncoding
from roles.model import GenerationRequest
from roles.models.replicas import Replicas
from roles.models.vllm import VllmModel
from roles.pocket import WEIGHTS
from roles.serving.fleet import Fleet

MODEL_NAME: Final = "pocket"
"""What the server calls the model."""


class ClientRun(NamedTuple):
    """Completions that a client received, with the time and CPU it took."""

    lengths: list[int]
    """Tokens of every completion."""
    seconds: float
    """By the clock, from the first request to the last answer."""
    cpu_seconds: float
    """Of the client's process."""


class Clients:
    """Both clients of a server; each requests `group` completions of a prompt, `in_flight` at once."""

    def __init__(
        self, fleet: Fleet, prompts: Sequence[str], group: int, in_flight: int, weights: Path = WEIGHTS, max_tokens: int = 128
    ) -> None:
        self._url, self._in_flight = fleet.urls[0], in_flight
        self._header = {"Authorization": f"Bearer {fleet.key}"}
        replicas = Replicas(fleet.urls, MODEL_NAME, weights_digest(weights), in_flight=in_flight // group, key=fleet.key)
        self._model = VllmModel(replicas, weights)
        sampling = Sampling(max_tokens=max_tokens)
        # vLLM increments the seed for each completion of a prompt, so that single requests get the same completions.
        self._requests = [GenerationRequest(text, group, SEED + n * group, sampling) for n, text in enumerate(prompts)]
        encoding = ChatEncoding(weights, 384)
        self._ids = [encoding.encode(request) for request in self._requests]

    async def ours(self) -> ClientRun:
        """One request a prompt, by our client."""
        await self._reset()
        began, cpu = time.perf_counter(), time.process_time()
        replies = await self._model.generate(self._requests)
        return ClientRun(lengths(replies), time.perf_counter() - began, time.process_time() - cpu)

    async def theirs(self, more: Mapping[str, Any]) -> ClientRun:
        """One request a completion, by `vllm.benchmarks.serve`, with `more` in its body.

        Raises:
            ModelError: requests failed; this client does not retry.
        """
        from vllm.benchmarks.datasets import SampleRequest
        from vllm.benchmarks.serve import TaskType, benchmark

        requests = [
            SampleRequest(list(ids), len(ids), request.sampling.max_tokens, request_overrides={"seed": request.seed + index})
            for ids, request in zip(self._ids, self._requests, strict=True)
            for index in range(request.count)
        ]
        await self._reset()
        cpu = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            results = await benchmark(
                task_type=TaskType.GENERATION,
                endpoint_type="openai",
                api_url=f"{self._url}/v1/completions",
                base_url=self._url,
                model_id=MODEL_NAME,
                model_name=MODEL_NAME,
                tokenizer=None,
                input_requests=requests,
                logprobs=None,
                request_rate=math.inf,
                burstiness=1.0,
                disable_tqdm=True,
                num_warmups=0,
                profile=False,
                selected_percentile_metrics=[],
                selected_percentiles=[],
                ignore_eos=False,
                goodput_config_dict={},
                max_concurrency=self._in_flight,
                lora_modules=None,
                extra_headers=self._header,
                extra_body={"temperature": 1.0, **more},
                ready_check_timeout_sec=0,
            )
        if results["failed"]:
            why = next(error for error in results["errors"] if error).strip().splitlines()[-1]
            raise ModelError(f"vLLM's client lost {results['failed']} requests ({one_line(why, 300)}); measure again.")
        return ClientRun(results["output_lens"], results["duration"], time.process_time() - cpu)

    async def close(self) -> None:
        """Close the connections of our client."""
        await self._model.close()

    async def _reset(self) -> None:
        async with (
            aiohttp.ClientSession(headers=self._header, raise_for_status=True) as session,
            session.post(f"{self._url}/reset_prefix_cache"),
        ):
            pass
        gc.collect()
