"""Completions of the same prompts, sampled in this process by our backend and by bare `generate`.

Both have the same weights, without an end-of-text token, and make exactly as many tokens as requested. Loading is not timed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.update_cases import LengthCase, Setting, model_of
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
    """Prompts of the pocket world, to its solver and its teacher in turn."""
    shipped = Prompts.named("pocket")
    prompts = (
        prompt
        for question in load_questions("pocket", "train").questions
        for prompt in (shipped.induction(question), shipped.easy(question, "function"))
    )
    return [prompt.text for prompt in islice(prompts, count)]


def save_endless(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model into a folder as one whose texts never end by themselves."""
    model.eval()
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class SamplingContest:
    """A model, written into an empty folder, prompts, and the number of tokens that each is to be completed with."""

    def __init__(self, shape: str, case: LengthCase, prompts: Sequence[str], folder: Path) -> None:
        self._bare, tokenizer = model_of(Setting(shape))
        save_endless(self._bare, tokenizer, folder)
        self._ours = TransformersModel(folder, weights_digest(folder))
        rng = random.Random(SEED)  # noqa: S311  # no secret
        self._lengths = [case.length(rng) for _ in prompts]
        self._requests = [
            GenerationRequest(prompt, 1, SEED + index, Sampling(max_tokens=length))
            for index, (prompt, length) in enumerate(zip(prompts, self._lengths, strict=True))
        ]
        encoding = ChatEncoding(folder, 384)
        self._ids = [encoding.encode(request) for request in self._requests]
        self._padded = tokenizer.pad({"input_ids": list(map(list, self._ids))}, padding_side="left", return_tensors="pt")
        self.tokens = sum(self._lengths)
        """Tokens of all completions."""

    def ours(self) -> float:
        """CPU seconds of our backend, from texts to texts, ids and logprobs."""
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
        """CPU seconds of `generate`, from padded ids to ids, or to logprobs too by transformers' own function."""
        import torch

        torch.manual_seed(SEED)
        began = time.process_time()
        with torch.inference_mode():
            output: Any = self._bare.generate(
                **{name: self._padded[name] for name in ("input_ids", "attention_mask")},
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
                self._bare.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        seconds = time.process_time() - began
        made = output.sequences.shape[1] - self._padded["input_ids"].shape[1]
        if made != max(self._lengths):
            raise ModelError(f"Bare generate made {made} tokens, not {max(self._lengths)}; does something end the texts?")
        return seconds


def lengths(replies: Sequence[GenerationReply]) -> list[int]:
    """Tokens of every completion, in order."""
    return [len(completion.token_ids) for reply in replies for completion in reply.completions]
