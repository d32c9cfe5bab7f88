"""A real vLLM serves the pocket model, and everything it says is compared with the same weights in this process."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from events.facts.errors import ModelError
from events.facts.values import CompletionPart, Digest, Sampling
from events.facts.weights import weights_digest
from graph.settings.config import LoraSettings
from roles.model import GenerationReply, GenerationRequest
from roles.models.replicas import Replicas
from roles.models.transformers import TransformersModel
from roles.models.vllm import VllmModel
from roles.pocket import WEIGHTS
from roles.serving.command import ServingConfig
from roles.serving.fleet import Fleet, start_fleet
from roles.serving.processes import RECORD
from tests.roles.test_serve import fetch, wait_for_engine
from tests.roles.test_transformers import check_given
from tests.support.processes import NEEDS_VLLM, all_end
from tests.support.tiny_model import load_model, logprobs
from trainer.learn import checkpoint

PROMPTS = [f"Given a list, drop the first {n} cells, then sort it.\n" for n in range(6)]
TOKENS = [5, 300, 17, 1200, 44, 44, 900, 3, 650, 1500, 71, 8]


pytestmark = [pytest.mark.slow, NEEDS_VLLM]


@dataclass
class WeightStore:
    """Weights on disk: the pocket model, the same moved, and two adapters on it."""

    folder: Path
    base: Digest
    moved: Digest
    adapters: tuple[Digest, Digest]

    def __getitem__(self, digest: Digest) -> Path:
        return self.folder / digest


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> WeightStore:
    import torch

    folder = tmp_path_factory.mktemp("weights")
    base = weights_digest(WEIGHTS)
    shutil.copytree(WEIGHTS, folder / base)
    torch.manual_seed(0)

    def stir(weights: checkpoint.LoadedWeights) -> None:
        with torch.no_grad():
            for parameter in weights.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))

    whole = checkpoint.load(folder, base)
    stir(whole)
    moved = checkpoint.save(folder, whole.folder, whole.model.state_dict(), {})
    adapters = []
    for name in ("teacher", "student"):
        plain = checkpoint.load(folder, base)
        adapted = checkpoint.load_adapter(plain, base, None, policy=name, lora=LoraSettings(rank=4, alpha=64), seed=0)
        stir(adapted)
        adapters.append(checkpoint.save(folder, adapted.folder, adapted.model.state_dict(), {}, adapted.adapter))
    return WeightStore(folder, base, moved, (adapters[0], adapters[1]))


@pytest.fixture(scope="module")
def fleet(store, tmp_path_factory):
    serving = ServingConfig(store[store.base], "gasp", tmp_path_factory.mktemp("logs"), kv_cache_gib=0.25, context=512, rank=4)
    fleet = asyncio.run(start_fleet(serving))
    yield fleet
    asyncio.run(fleet.close())


@pytest.fixture
async def replicas(fleet: Fleet, store):
    replicas = Replicas(fleet.urls, "gasp", store.base, key=fleet.key, check=fleet.check, timeout_s=120)
    yield replicas
    await replicas.close()


@pytest.fixture
def model(replicas, store) -> VllmModel:
    return VllmModel(replicas, store[store.base])


def ask(prompt: str = PROMPTS[0], count: int = 3, seed: int = 7, **sampling) -> GenerationRequest:
    return GenerationRequest(prompt, count, seed, Sampling(**{"max_tokens": 24, **sampling}))


def ids(replies: list[GenerationReply]) -> list[list[tuple[int, ...]]]:
    return [[completion.token_ids for completion in reply.completions] for reply in replies]


def check(reply: GenerationReply, weights: Path, temperature: float = 1.0) -> None:
    for completion in reply.completions:
        wanted = logprobs(load_model(weights), list(reply.prompt_ids), list(completion.token_ids), temperature)
        assert completion.logprobs == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
async def test_logprobs_are_those_of_the_distribution_sampled_from(model, store, temperature) -> None:
    for reply in await model.generate([ask(prompt, temperature=temperature) for prompt in PROMPTS]):
        assert reply.policy == store.base
        assert len(reply.completions) == 3
        check(reply, store[store.base], temperature)


async def test_prompts_ends_and_texts_are_as_in_process(model, store) -> None:
    inside = TransformersModel(store[store.base], store.base)
    requests = [ask(prompt, count=8, max_tokens=40) for prompt in [*PROMPTS, "", "sort <|end|> it"]]
    there, here = await model.generate(requests), await inside.generate(requests)
    assert [reply.prompt_ids for reply in there] == [reply.prompt_ids for reply in here]
    completions = [completion for reply in there for completion in reply.completions]
    assert {completion.stop for completion in completions} == {"end", "length"}
    for completion in completions:
        assert (completion.token_ids[-1] == 0) == (completion.stop == "end")
        assert "<|end|>" not in completion.text
        assert completion.stop == "end" or len(completion.token_ids) == 40


async def test_same_seed_same_tokens_whatever_else_is_asked(model) -> None:
    alone = await model.generate([ask(PROMPTS[2])])
    assert ids(alone)[0] == ids(await model.generate([ask(prompt) for prompt in PROMPTS]))[2]
    assert ids(alone) != ids(await model.generate([ask(PROMPTS[2], seed=8)]))
    assert len(set(ids(alone)[0])) == 3


async def test_temperature_zero_takes_the_likeliest_each_time_and_top_p_leaves_out_the_tail(model, store) -> None:
    inside = TransformersModel(store[store.base], store.base)
    (greedy,), (wanted,) = await model.generate([ask(temperature=0)]), await inside.generate([ask(temperature=0)])
    assert ids([greedy]) == ids([wanted])
    check(greedy, store[store.base])
    (nucleus,) = await model.generate([ask(top_p=0.3, count=8)])
    for completion in nucleus.completions:
        plain = logprobs(load_model(store[store.base]), list(nucleus.prompt_ids), list(completion.token_ids)).tolist()
        assert all(logprob >= other - 1e-4 for logprob, other in zip(completion.logprobs, plain, strict=True))
        assert sum(completion.logprobs) > sum(plain) + 0.1


async def test_a_completion_ends_once_its_text_holds_a_stop_text(model, store) -> None:
    (free,) = await model.generate([ask(max_tokens=40, count=8)])
    (held,) = await model.generate([ask(max_tokens=40, count=8, stop=("\n", "zzzz"))])
    assert {completion.stop for completion in held.completions} >= {"text"}
    for whole, cut in zip(free.completions, held.completions, strict=True):
        assert whole.token_ids[: len(cut.token_ids)] == cut.token_ids
        assert ("\n" in cut.text) == (cut.stop == "text")
        if cut.stop == "text":
            assert "\n" not in model._encoding.decode(cut.token_ids[:-1])
    check(held, store[store.base])


async def test_given_texts_begin_the_parts_of_a_completion(model, store) -> None:
    parts = tuple(CompletionPart(given=text, stops=("e",)) for text in ("Given a list, ", "sort it, then", " drop"))
    request = GenerationRequest(PROMPTS[0], 6, 7, Sampling(max_tokens=60), parts=parts)
    reply, again = await model.generate([request, request])
    assert reply == again
    assert {completion.stop for completion in reply.completions} >= {"text"}
    import torch

    for completion in reply.completions:
        given = [tuple(model._encoding.encode_text(part.given)) for part in parts]
        check_given(completion, given, tuple(model._encoding.encode_text("e")))
        wanted = logprobs(load_model(store[store.base]), list(reply.prompt_ids), list(completion.token_ids), 1.0)
        sampled = torch.tensor(completion.sampled)
        assert completion.logprobs == pytest.approx((wanted * sampled).tolist(), abs=1e-4)


async def test_logprobs_of_a_fixed_text_are_those_of_the_weights(model, store) -> None:
    inside = TransformersModel(store[store.base], store.base)
    assert await model.logprobs_of(TOKENS) == pytest.approx(await inside.logprobs_of(TOKENS), abs=1e-4)
    parts = TOKENS[:4], [TOKENS[4:], TOKENS[4:5]]
    assert await model.continuation_logprobs(*parts) == pytest.approx(await inside.continuation_logprobs(*parts), abs=1e-3)


async def test_other_weights_are_served_once_they_are_delivered(model, store) -> None:
    before = await model.logprobs_of(TOKENS)
    (old,) = await model.generate([ask()])
    await model.load_weights(store[store.moved], store.moved)
    try:
        inside = TransformersModel(store[store.moved], store.moved)
        scored = await model.logprobs_of(TOKENS)
        assert scored == pytest.approx(await inside.logprobs_of(TOKENS), abs=1e-4)
        assert scored != pytest.approx(before, abs=0.1)
        (new,) = await model.generate([ask()])
        assert (old.policy, new.policy) == (store.base, store.moved)
        check(new, store[store.moved])
    finally:
        await model.load_weights(store[store.base], store.base)
    assert await model.logprobs_of(TOKENS) == before
    assert (await model.generate([ask()])) == [old]


async def test_two_adapters_are_served_at_once_and_each_is_what_it_is_merged(replicas, model, store) -> None:
    other = VllmModel(replicas, store[store.base])
    plain = await other.logprobs_of(TOKENS)
    for policy, digest in zip((model, other), store.adapters, strict=True):
        await policy.load_weights(store[digest], digest)
    answers = await asyncio.gather(*(policy.generate([ask(p) for p in PROMPTS[:3]]) for policy in (model, other)))
    for policy, replies, digest in zip((model, other), answers, store.adapters, strict=True):
        inside = TransformersModel(store[digest], digest)
        scored = await policy.logprobs_of(TOKENS)
        assert scored == pytest.approx(await inside.logprobs_of(TOKENS), abs=1e-4)
        assert scored != pytest.approx(plain, abs=0.1)
        for reply in replies:
            assert reply.policy == digest
            check(reply, store[digest])
    await model.load_weights(store[store.adapters[1]], store.adapters[1])
    assert await model.logprobs_of(TOKENS) == pytest.approx(await other.logprobs_of(TOKENS), abs=1e-5)
    await model.load_weights(store[store.base], store.base)
    assert await model.logprobs_of(TOKENS) == pytest.approx(plain, abs=1e-5)


async def test_other_weights_than_asked_and_adapters_on_another_base_are_refused(model, replicas, store) -> None:
    with pytest.raises(ModelError, match="give the right folder"):
        await model.load_weights(store[store.moved], store.base)
    replicas.holds = store.moved
    with pytest.raises(ModelError, match="has the base"):
        await model.load_weights(store[store.adapters[0]], store.adapters[0])


async def test_servers_that_rest_wake_up_by_themselves(fleet, store) -> None:
    model = VllmModel(Replicas(fleet.urls, "gasp", store.base, key=fleet.key, sleeps=True), store[store.base])
    before, (old,) = await model.logprobs_of(TOKENS), await model.generate([ask()])
    await model.sleep()
    assert await model.generate([ask()]) == [old]
    await model.sleep()
    assert await model.logprobs_of(TOKENS) == before
    await model.close()


async def test_many_requests_wait_their_turn(fleet, store) -> None:
    replicas = Replicas(fleet.urls, "gasp", store.base, key=fleet.key, in_flight=4)
    model = VllmModel(replicas, store[store.base])
    requests = [ask(PROMPTS[n % 6], count=2, seed=n, max_tokens=4) for n in range(24)]
    replies = await model.generate(requests)
    assert [reply.prompt_ids for reply in replies] == [replies[n % 6].prompt_ids for n in range(24)]
    assert ids(replies) == ids(await VllmModel(replicas, store[store.base]).generate(requests))
    assert await model.generate([]) == []
    await model.close()


async def test_what_the_server_refuses_is_told(model) -> None:
    with pytest.raises(ModelError, match=r"HTTP 400.*512"):
        await model.generate([ask(max_tokens=5000)])


GOOD = {
    "model": "gasp",
    "choices": [
        {
            "token_ids": [5, 0],
            "prompt_token_ids": [0],
            "finish_reason": "stop",
            "stop_reason": None,
            "logprobs": {"token_logprobs": [-1.0, -2.0]},
        }
    ],
}


@asynccontextmanager
async def imitated(store: WeightStore, *texts: str):
    """A model served by servers that always give these answers, one each."""
    runners = []
    for text in texts:
        app = web.Application()
        app.router.add_post("/v1/completions", partial(say, text))
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
    urls = [f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners]
    model = VllmModel(Replicas(urls, "gasp", store.base), store[store.base])
    try:
        yield model
    finally:
        await model.close()
        for runner in runners:
            await runner.cleanup()


async def say(text: str, _: web.Request) -> web.Response:
    return web.Response(text=text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"token_ids": [5]}, "does not end"),
        ({"token_ids": [5, 6, 0]}, "2 logprobs of 3 tokens"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}, "finish_reason": "length"}, "0 tokens"),
        ({"logprobs": {"token_logprobs": [-1.0, float("nan")]}}, "finite"),
        ({"logprobs": {"token_logprobs": [-1.0, -9999.0]}}, "greater than"),
        ({"logprobs": {"token_logprobs": [-1.0, 0.5]}}, "less than"),
        ({"logprobs": {"token_logprobs": [None, -1.0]}}, "number"),
        ({"prompt_token_ids": [1]}, "another prompt"),
        ({"finish_reason": "abort"}, "finish_reason"),
        ("model", "it is from the model other"),
        ("choices", "another number of times"),
        ("html", "JSON"),
    ],
)
async def test_nonsense_of_a_server_is_not_believed(store, change, says) -> None:
    answer = json.loads(json.dumps(GOOD))
    if isinstance(change, dict):
        answer["choices"][0].update(change)
    elif change == "model":
        answer["model"] = "other"
    elif change == "choices":
        answer["choices"] *= 2
    text = "<html>" if change == "html" else json.dumps(answer)

    async with imitated(store, text) as model:
        with pytest.raises(ModelError, match=says):
            await model.generate([ask("", count=1)])


async def test_the_server_whose_weights_are_others_is_named(store) -> None:
    def scored(logprob: float) -> str:
        return json.dumps({"model": "gasp", "choices": [{"logprobs": {"top_logprobs": [{"token_id:6": logprob}]}}]})

    async with imitated(store, scored(-1.0), scored(-1.0), scored(-1.5)) as model:
        odd = model._replicas._servers[2].url
        with pytest.raises(ModelError, match=rf"{odd} has other weights than the others: .* up to 0\.5"):
            await model.logprobs_of([5, 6])
    async with imitated(store, scored(-1.0), scored(-1.001), scored(-1.0)) as model:
        assert await model.logprobs_of([5, 6]) == (-1.001,)
        assert await model.continuation_logprobs([5], [[6, 6], [6]]) == pytest.approx((-2, -1), abs=0.01)


async def test_servers_answer_whoever_has_the_key_and_when_they_end_the_cause_is_told(fleet, model) -> None:
    """The last test here: nobody is asked anything afterwards."""
    (url,) = fleet.urls
    health, evil = {"method": "check_health"}, "other"
    assert fetch(url, "/collective_rpc", fleet.key, health)[0] == 200
    assert [fetch(url, path, evil, body)[0] for path, body in (("/collective_rpc", health), ("/health", None))] == [401] * 2
    assert fleet.key not in fleet.servers[0].log.read_text()
    below = wait_for_engine(json.loads((fleet.folder / RECORD).read_text())["supervisor"][0])
    server = next(pid for pid in below["all"] if b"api_server" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(server, signal.SIGKILL)
    assert all_end(below["engine"])
    while fleet.exit_reason() is None:
        await asyncio.sleep(0.05)
    with pytest.raises(ModelError, match=r"vLLM server 0 was killed by signal 9.* \(all of it is in .*\.log\)"):
        fleet.check()
    await fleet.close()
    assert not fleet.folder.exists()
    with pytest.raises(ModelError, match="vLLM server 0 was killed by signal 9"):
        await model.generate([ask()])
