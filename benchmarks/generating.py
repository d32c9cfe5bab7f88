"""Completions of the same prompts, sampled in this process by our backend and by bare `generate`.

Law: everybody has the same weights, which never end a text by themselves, and makes exactly as many tokens as are asked for;
what nobody asked for is not counted. It does not time the loading.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.lessons import LengthCase, Setting, model_of
from events.facts.errors import ModelError
from events.facts.values import Sampling
from events.facts.weights import weights_digest
from roles.chat_encoding import ChatEncoding
from roles.model import GenerationReply, GenerationRequest
from roles.models.transformers import TransformersModel
from roles.prompt import Prompts
from roles.questions.load import load_questions

SEED: Final = 1


def pocket_prompts(count: int) -> list[str]:
    """So many of the pocket world's prompts, to its solver and its teacher in turn."""
    shipped = Prompts.named("pocket")
    found = (
        prompt
        for asked in load_questions("pocket", "train").questions
        for prompt in (shipped.induction(asked), shipped.easy(asked, "function"))
    )
    return [prompt.text for prompt in islice(found, count)]


class SamplingContest:
    """One model's prompts, and how many tokens each is to be answered with.

    Args:
        shape: As in `benchmarks.lessons`.
        case: How long completions are.
        asked: The prompts.
        folder: Where the weights are written; empty.
    """

    def __init__(self, shape: str, case: LengthCase, asked: Sequence[str], folder: Path) -> None:
        self._bare, tokenizer = model_of(Setting(shape))
        self._bare.eval()
        self._bare.config.eos_token_id = self._bare.generation_config.eos_token_id = tokenizer.eos_token = None
        self._bare.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        self._ours = TransformersModel(folder, weights_digest(folder))
        rng = random.Random(SEED)  # noqa: S311  # no secret
        self._lengths = [case.length(rng) for _ in asked]
        self._requests = [
            GenerationRequest(prompt, 1, SEED + place, Sampling(max_tokens=length))
            for place, (prompt, length) in enumerate(zip(asked, self._lengths, strict=True))
        ]
        encoding = ChatEncoding(folder, 384)
        self._ids = [encoding.encode(request) for request in self._requests]
        self._given = tokenizer.pad({"input_ids": list(map(list, self._ids))}, padding_side="left", return_tensors="pt")
        self.tokens = sum(self._lengths)
        """Tokens that are asked for."""

    def ours(self) -> float:
        """Seconds of the CPU that our backend takes, from texts to texts, ids and logprobs."""
        began = time.process_time()
        replies = asyncio.run(self._ours.generate(self._requests))
        seconds = time.process_time() - began
        made = lengths(replies)
        if made != self._lengths or [reply.prompt_ids for reply in replies] != self._ids:
            raise ModelError(
                f"Our backend made {made} tokens, not {self._lengths}; does something end the texts, or cut prompts?"
            )
        return seconds

    def bare(self, *, logprobs: bool) -> float:
        """Seconds of the CPU that `generate` takes, from padded ids to ids, or to logprobs too by transformers' own means."""
        import torch

        torch.manual_seed(SEED)
        began = time.process_time()
        with torch.inference_mode():
            found: Any = self._bare.generate(
                **{name: self._given[name] for name in ("input_ids", "attention_mask")},
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max(self._lengths),
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=logprobs,
            )
            if logprobs:
                self._bare.compute_transition_scores(found.sequences, found.logits, normalize_logits=True)
        seconds = time.process_time() - began
        made = found.sequences.shape[1] - self._given["input_ids"].shape[1]
        if made != max(self._lengths):
            raise ModelError(f"Bare generate made {made} tokens, not {max(self._lengths)}; does something end the texts?")
        return seconds


def lengths(replies: Sequence[GenerationReply]) -> list[int]:
    """Tokens of every completion, in order."""
    return [len(completion.token_ids) for reply in replies for completion in reply.completions]
