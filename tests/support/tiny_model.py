"""A tiny random model in Hugging Face format, and scenes whose logprobs are really its own.

Everything follows from the seed. Scenes draw their tokens at random, not from the model: the logprobs are right, the
text is noise, and a trainer sees no more.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from events.facts.log import Log
from events.facts.rollouts import pack_rollouts, unpack_rollouts
from events.facts.values import Digest, Generation, Role, Sampling
from events.facts.weights import adapter_base, weights_digest
from tests.support.example_runs import ExampleRun
from trainer.learn.loss import keep_libraries_offline

VOCABULARY = 64


def tiny_weights(store: Path, *, seed: int = 0, tied: bool = False, width: int = 32, layers: int = 2) -> Digest:
    """Write random weights under their digest."""
    keep_libraries_offline()
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=width // 4,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.2,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    return save_weights(store, Qwen3ForCausalLM(config))


def tiny_gpt2(store: Path, *, context: int = 512) -> Digest:
    """Write a random GPT-2, which has a table of positions and no `nn.Linear` but its head, under its digest."""
    keep_libraries_offline()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": context, "vocab_size": VOCABULARY}
    config = GPT2Config(**sizes, initializer_range=0.2, eos_token_id=1, bos_token_id=None, pad_token_id=0)
    return save_weights(store, GPT2LMHeadModel(config))


def save_weights(store: Path, model: Any) -> Digest:
    """Write a model with the tokenizer of all tiny ones under its digest."""
    import torch

    torch.set_num_threads(1)
    folder = store / "new"
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    digest = weights_digest(folder)
    shutil.rmtree(store / digest, ignore_errors=True)
    folder.rename(store / digest)
    return digest


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<end>": 1, **{f"t{n}": n for n in range(2, VOCABULARY)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="t2"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<end>")


@cache
def load_model(folder: Path) -> Any:
    """The model in a folder, or an adapter merged into its base, to look at."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = adapter_base(folder)
    model = AutoModelForCausalLM.from_pretrained(base or folder)
    return (model if base is None else PeftModel.from_pretrained(model, folder).merge_and_unload()).eval()


def logprobs(model: Any, prompt: list[int], ids: list[int], temperature: float = 1.0) -> Any:
    """Natural-log probability of each id after the prompt, in the model's own precision."""
    return logprobs_of_rows(model, prompt, [ids], temperature)[0]


def logprobs_of_rows(model: Any, prompt: list[int], rows: list[list[int]], temperature: float = 1.0) -> list[Any]:
    """The same of several rows of ids behind one prompt, computed together; causal attention does not see the padding behind."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[*prompt, *row, *[0] * (longest - len(row))] for row in rows])
    with torch.no_grad():
        logits = model(ids).logits[:, len(prompt) - 1 : -1] / temperature
    sampled = logits.log_softmax(-1).gather(-1, ids[:, len(prompt) :, None])[..., 0]
    return [values[: len(row)] for values, row in zip(sampled, rows, strict=True)]


class TinyModelRun(ExampleRun):
    """A scene played by the weights in `store`; they stay the same, as in asynchronous play."""

    def __init__(
        self, log: Log, store: Path, digest: Digest, *, seed: int = 0, sampling: Sampling | None = None, honest: bool = True
    ) -> None:
        super().__init__(log, seed=seed, vocabulary=VOCABULARY, policy=digest, sampling=sampling or Sampling())
        self._model = load_model(store / digest) if honest else None
        self.tamper: Callable[[list[list[int]], list[list[float]]], Any] = lambda ids, logprobs: (ids, logprobs)
        """What a broken server does to the ids and logprobs of a generation."""

    def run(self, **config: Any) -> TinyModelRun:
        """RunStarted; unless told otherwise, its play may be ahead as far as it likes."""
        super().run(**{**config, "learn": {"staleness": 99, **config.get("learn", {})}})
        return self

    def load_weights(self, store: Path, digest: Digest) -> TinyModelRun:
        self.policies = {"teacher": digest, "student": digest}
        self._model = load_model(store / digest)
        return self

    def generation(self, prompt: str, count: int, role: Role = "student") -> Generation:
        made = super().generation(prompt, count, role)
        if self._model is None:
            return made
        rollouts = unpack_rollouts(self.log.get(made.tokens))
        prompt_ids = rollouts.prompt.tolist()
        rows = [row.tolist() for row in rollouts.ids]
        computed = logprobs_of_rows(self._model, prompt_ids, rows, made.sampling.temperature)
        logprob_rows = [values.tolist() for values in computed]
        rows, logprob_rows = self.tamper(rows, logprob_rows)
        return made.model_copy(update={"tokens": self.log.put(pack_rollouts(prompt_ids, rows, logprob_rows))})
