"""The in-process sampler on a tiny random model: exact logprobs, and randomness that ignores the batch."""

import asyncio
import itertools
from pathlib import Path

import pytest

from events.facts.errors import ModelError
from events.facts.values import CompletionPart, Sampling
from events.facts.weights import weights_digest
from roles.model import Completion, GenerationRequest
from roles.models.sampling import uniforms
from roles.models.transformers import TransformersModel

PROMPTS = ["Given a list, sort it.\n", "def f(x):\n", "Given a word, drop the vowels, spell it backwards.\n", "a"]


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.4}
LLAMA_LIKE = {**SHAPE, "intermediate_size": 48, "num_key_value_heads": 1, "tie_word_embeddings": False}


def made(folder: Path, family: str, *, more_words: int = 0, **shape) -> Path:
    """A tiny random model of a family by transformers' name for it, with a tokenizer that may know fewer words."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from roles.pocket.tokenizer import train_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = train_tokenizer([*PROMPTS, "rotate left, 1, 2, 3"] * 4)
    words = {"vocab_size": len(tokenizer) + more_words, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(family, **words, eos_token_id=tokenizer.eos_token_id, **shape)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            # Biases begin as zeros and the weights of norms as ones, so a mistake in them would show in no result.
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("weights"), "qwen3", head_dim=16, **LLAMA_LIKE)


@pytest.fixture(scope="module")
def model(weights: Path) -> TransformersModel:
    return TransformersModel(weights, weights_digest(weights))


def ask(prompt: str, count: int = 5, seed: int = 3, **sampling) -> GenerationRequest:
    return GenerationRequest(prompt, count, seed, Sampling(**{"max_tokens": 12, **sampling}))


def forward(weights: Path, prompt: tuple[int, ...], answer: tuple[int, ...], temperature: float):
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(weights)
    with torch.no_grad():
        logits = plain(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)


async def test_what_nobody_waits_for_any_more_is_not_sampled_to_its_end(model) -> None:
    request = asyncio.create_task(model.generate([ask("a" * 100, count=256, max_tokens=900)]))
    while (sampling := model._activity.first) is None:
        await asyncio.sleep(0.01)
    assert sampling.what == "sampling answers"
    # Until each of the 256 has a first token.
    while int(sampling.note().removesuffix(" tokens").replace(",", "")) < 256:
        await asyncio.sleep(0.001)
    # Its 100 prompt tokens of 1000 are done.
    assert sampling.left is not None
    assert 0.1 <= sampling.share() < 1
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    while model._activity.first is not None:
        await asyncio.sleep(0.01)
    assert sampling.done < sampling.total == 256


@pytest.mark.parametrize("temperature", [1.0, 0.6])
async def test_logprobs_equal_a_plain_forward_pass(model, weights, temperature) -> None:
    for reply in await model.generate([ask(p, temperature=temperature) for p in PROMPTS]):
        for completion in reply.completions:
            wanted = forward(weights, reply.prompt_ids, completion.token_ids, temperature)
            for place, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
                assert logprob == pytest.approx(wanted[place, token].item(), abs=1e-5)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("llama", {**LLAMA_LIKE, "attention_bias": True}),
        ("llama", {**LLAMA_LIKE, "mlp_bias": True}),
        ("qwen2", {**LLAMA_LIKE, "more_words": 64}),
        ("mistral", {**LLAMA_LIKE, "sliding_window": 6}),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}),
        ("gpt_neox", {**SHAPE, "intermediate_size": 48}),
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}),
        ("gemma3_text", {**LLAMA_LIKE, "head_dim": 16, "sliding_window": 6}),
    ],
)
async def test_any_causal_model_samples_from_what_a_plain_forward_pass_says(tmp_path, family, shape) -> None:
    weights = made(tmp_path, family, **shape)
    model = TransformersModel(weights, weights_digest(weights))
    assert (model._step is not None) == (family in ("llama", "qwen2") and "mlp_bias" not in shape)
    replies = await model.generate([ask(p) for p in PROMPTS])
    seen = {token for reply in replies for completion in reply.completions for token in completion.token_ids}
    assert not shape.get("more_words") or max(seen) >= len(model._encoding._tokenizer)
    for reply in replies:
        assert await model.logprobs_of(reply.prompt_ids) == pytest.approx(
            taken(forward(weights, reply.prompt_ids[:1], reply.prompt_ids[1:], 1.0), reply.prompt_ids[1:]), abs=1e-5
        )
        ids = [completion.token_ids for completion in reply.completions]
        scores = await model.continuation_logprobs(reply.prompt_ids, [*ids, ids[0][:1]])
        for completion, score in zip(reply.completions, scores, strict=False):
            wanted = taken(forward(weights, reply.prompt_ids, completion.token_ids, 1.0), completion.token_ids)
            assert completion.logprobs == pytest.approx(wanted, abs=2e-5)
            assert score == pytest.approx(sum(wanted), abs=1e-4)
        assert scores[-1] == pytest.approx(reply.completions[0].logprobs[0], abs=2e-5)


def taken(wanted, ids: tuple[int, ...]) -> list[float]:
    return [wanted[place, token].item() for place, token in enumerate(ids)]


def test_a_model_without_keys_and_values_is_refused(tmp_path) -> None:
    weights = made(tmp_path, "mamba", hidden_size=32, num_hidden_layers=1, state_size=4)
    with pytest.raises(ModelError, match="has no key-value cache"):
        TransformersModel(weights, weights_digest(weights))


async def test_in_bfloat16_logprobs_are_near_those_in_float32_and_computed_exactly(model, weights) -> None:
    import torch

    rough = TransformersModel(weights, model.policy, dtype="bfloat16")
    ids = (await model.generate([ask(PROMPTS[0])]))[0].prompt_ids
    logprobs, wanted = await rough.logprobs_of(ids), await model.logprobs_of(ids)
    assert logprobs == pytest.approx(wanted, abs=0.5)
    assert logprobs != wanted
    assert logprobs != tuple(torch.tensor(logprobs).bfloat16().tolist())


async def test_a_completion_ends_with_the_token_that_completes_a_stop_text(model) -> None:
    stops = ("vowels", "e,", "lft")
    free = await model.generate([ask(p, count=30, max_tokens=40) for p in PROMPTS])
    held = await model.generate([ask(p, count=30, max_tokens=40, stop=stops) for p in PROMPTS])
    pairs = [pair for one, two in zip(free, held, strict=True) for pair in zip(one.completions, two.completions, strict=True)]
    ended = [cut for _, cut in pairs if cut.stop == "text"]
    assert ended
    for whole, cut in pairs:
        assert whole.token_ids[: len(cut.token_ids)] == cut.token_ids
        assert whole.logprobs[: len(cut.token_ids)] == pytest.approx(cut.logprobs, abs=1e-5)
        assert any(stop in cut.text for stop in stops) == (cut.stop == "text")
        assert not any(stop in model._encoding.decode(cut.token_ids[:-1]) for stop in stops)


async def test_same_seed_same_tokens_and_another_seed_others(model) -> None:
    first, again, other = [(await model.generate([ask(PROMPTS[0], seed=s)]))[0] for s in (3, 3, 4)]
    assert first == again
    assert [c.token_ids for c in first.completions] != [c.token_ids for c in other.completions]


async def test_a_row_does_not_depend_on_the_batch_around_it(model, weights) -> None:
    small = TransformersModel(weights, model.policy, rows=3)
    alone = (await model.generate([ask(PROMPTS[1])]))[0]
    among = (await model.generate([ask(p) for p in PROMPTS]))[1]
    chunked = (await small.generate([ask(p) for p in PROMPTS]))[1]
    fewer = (await model.generate([ask(PROMPTS[1], count=2)]))[0]
    ids = [c.token_ids for c in alone.completions]
    assert ids == [c.token_ids for c in among.completions] == [c.token_ids for c in chunked.completions]
    assert ids[:2] == [c.token_ids for c in fewer.completions]


async def test_temperature_zero_takes_the_likeliest_token(model, weights) -> None:
    (reply,) = await model.generate([ask(PROMPTS[2], temperature=0.0, count=2)])
    first, second = reply.completions
    assert first == second
    assert forward(weights, reply.prompt_ids, first.token_ids, 1.0).argmax(-1).tolist() == list(first.token_ids)


async def test_top_p_leaves_out_the_tail_and_logprobs_say_so(model, weights) -> None:
    (reply,) = await model.generate([ask(PROMPTS[0], count=20, top_p=0.3)])
    for completion in reply.completions:
        plain = forward(weights, reply.prompt_ids, completion.token_ids, 1.0)
        for place, (token, logprob) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
            assert plain[place].exp()[plain[place] > plain[place, token]].sum().item() < 0.3
            assert logprob > plain[place, token].item()


async def test_long_prompts_are_cut_from_the_left(model, weights) -> None:
    short = TransformersModel(weights, model.policy, max_prompt_tokens=3)
    (whole,), (cut,) = await model.generate([ask(PROMPTS[2])]), await short.generate([ask(PROMPTS[2])])
    assert len(whole.prompt_ids) > 3
    assert cut.prompt_ids == whole.prompt_ids[-3:]


async def test_answers_end_with_the_end_token_or_at_the_limit(model) -> None:
    (reply,) = await model.generate([ask(PROMPTS[3], count=40, temperature=2.0, max_tokens=40)])
    (end,) = model._encoding.ends
    assert {c.stop for c in reply.completions} <= {"end", "length"}
    for completion in reply.completions:
        assert (completion.token_ids[-1] == end) == (completion.stop == "end")
        assert end not in completion.token_ids[:-1]
        assert completion.stop == "end" or len(completion.token_ids) == 40
        assert "<|end|>" not in completion.text


async def test_special_tokens_in_a_statement_are_plain_text(model) -> None:
    (reply,) = await model.generate([ask("sort <|end|> it", count=1)])
    assert not model._encoding.ends & set(reply.prompt_ids)
    assert model._encoding.decode(reply.prompt_ids) == "sort <|end|> it"


async def test_an_empty_prompt_and_an_empty_batch_are_answered(model) -> None:
    assert await model.generate([]) == []
    assert len((await model.generate([ask("")]))[0].completions) == 5


def test_other_weights_than_asked_are_refused(weights, tmp_path) -> None:
    with pytest.raises(ModelError, match="give the right folder"):
        TransformersModel(weights, "0" * 64)
    with pytest.raises(ModelError, match="safetensors"):
        weights_digest(tmp_path)


def test_the_digest_sees_weights_and_tokenizer_but_not_the_optimizer(weights, tmp_path) -> None:
    import shutil

    copy = shutil.copytree(weights, tmp_path / "copy")
    (copy / "optimizer.moments").write_bytes(b"moments")
    assert weights_digest(copy) == weights_digest(weights)
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + " ")
    assert weights_digest(copy) != weights_digest(weights)


def test_uniforms_depend_on_seed_and_row_alone() -> None:
    assert uniforms(5, 2, 8)[:4].tolist() == uniforms(5, 2, 4).tolist()
    assert uniforms(5, 2, 4).tolist() != uniforms(5, 3, 4).tolist() != uniforms(6, 3, 4).tolist()


async def test_given_texts_begin_the_parts_of_a_completion(model, weights) -> None:
    parts = tuple(CompletionPart(given=text, stops=("e",)) for text in ("Given a ", "word, drop", " the vowels"))
    request = GenerationRequest(PROMPTS[1], 12, 5, Sampling(max_tokens=60), parts=parts)
    (reply,) = await model.generate([request])
    given = [tuple(model._encoding.encode_text(part.given)) for part in parts]
    assert {completion.stop for completion in reply.completions} >= {"text"}
    for completion in reply.completions:
        check_given(completion, given, tuple(model._encoding.encode_text("e")))
        wanted = forward(weights, reply.prompt_ids, completion.token_ids, 1.0)
        for row, token, logprob, sampled in zip(
            wanted, completion.token_ids, completion.logprobs, completion.sampled, strict=True
        ):
            assert logprob == (pytest.approx(float(row[token]), abs=1e-4) if sampled else 0)


def check_given(completion: Completion, parts: list[tuple[int, ...]], stop: tuple[int, ...]) -> None:
    """Given ids stand where they should, and the other tokens are sampled; `stop` is given where a part ended by itself."""
    marked = itertools.groupby(zip(completion.token_ids, completion.sampled, strict=True), key=lambda pair: pair[1])
    runs = [(sampled, tuple(token for token, _ in run)) for sampled, run in marked]
    given = [ids for sampled, ids in runs if not sampled]
    assert runs[0][0] is False
    assert given[0] == parts[0]
    for ids, part in zip(given[1:-1], parts[1:], strict=False):
        assert ids in (part, stop + part)
    if completion.stop != "length":
        assert given[-1] in (parts[-1], stop + parts[-1])
        assert runs[-1][0] is True
        assert len(given) == len(parts)
