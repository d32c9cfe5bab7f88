"""Two players on one vLLM server, which is scripted: the coordinator alone has it load weights, and no late reply is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import shutil
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from benchmarks import players as benchmark
from events.facts.errors import ModelError
from events.facts.types import AttemptsMade, IterationStarted, PolicyProbed, PolicyUpdated, RunStarted
from events.facts.values import Digest
from events.facts.weights import weights_digest
from events.process.activity import Activity
from events.stores import open_log
from graph.play.player import Player
from graph.play.player_log import PlayerLog
from graph.settings.config import Config
from graph.setup.model_source import PolicyWeights, SharedServers, open_models
from roles.chat_encoding import ChatEncoding
from roles.models import replicas
from roles.pocket import WEIGHTS

RUNS = itertools.count()
ITERATIONS = 2


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A folder of weights: the pocket model, and as many changed copies as there are updates."""
    folder = tmp_path_factory.mktemp("run") / "weights"
    for number in range(ITERATIONS + 1):
        copied = Path(shutil.copytree(WEIGHTS, folder / str(number)))
        (copied / "config.json").write_text((WEIGHTS / "config.json").read_text() + " " * number)
        copied.rename(folder / f"{weights_digest(copied)}")
    return folder


def in_order(store: Path) -> list[Digest]:
    """The digests of the weights, by the number of updates."""
    return [Digest(path.name) for path in sorted(store.iterdir(), key=lambda path: len((path / "config.json").read_text()))]


def logprob(policy: str) -> float:
    """What the server gives every token under some weights."""
    return -1 - int(policy[:4], 16) / 2**16


class VllmScript:
    """A server whose completions follow from prompt and seed, and whose logprobs tell which weights it has."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self._encoding = ChatEncoding(WEIGHTS, 10_000)
        self._resets = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        match request.path:
            case "/v1/models":
                return web.json_response({"data": [{"id": "scripted"}]})
            case "/collective_rpc":
                self.loaded.append(Path(body["kwargs"]["weights_path"]).name)
            case "/reset_prefix_cache":
                # Once it has requests in flight, as when a coordinator comes back to players that play on.
                self._resets += 1
                return web.json_response(self._resets != 2)
            case "/v1/completions":
                make = self._score if "logprob_token_ids" in body else self._complete
                return web.json_response({"model": "scripted", "choices": make(body)})
        return web.json_response({})

    def _score(self, body: dict) -> list[dict]:
        (token,) = body["logprob_token_ids"]
        return [{"logprobs": {"top_logprobs": [{f"token_id:{token}": logprob(self.loaded[-1])}]}}]

    def _complete(self, body: dict) -> list[dict]:
        return [self._choice(body["prompt"], body["seed"] + number) for number in range(body["n"])]

    def _choice(self, prompt: list[int], seed: int) -> dict:
        drawn = hashlib.sha256(f"{prompt} {seed}".encode()).digest()[0] % 9
        ids = [*self._encoding.encode_text(f"```python\ndef f(x):\n    return x + {drawn}\n```"), min(self._encoding.ends)]
        logprobs = {"token_logprobs": [logprob(self.loaded[-1])] * len(ids)}
        return {"token_ids": ids, "prompt_token_ids": prompt, "finish_reason": "stop", "logprobs": logprobs}


class Learner(benchmark.IdleTrainer):
    """Appends the next weights of a store for each iteration."""

    def __init__(self, log, digests) -> None:
        super().__init__(log)
        self._digests = digests

    async def wait_for_update(self, policy, iteration):
        digest, parent = self._digests[iteration], self._digests[iteration - 1]
        numbers = {"after": 0, "until": 0, "samples": "", "step": 0, "steps": ()}
        fact = PolicyUpdated(policy=policy, parent=parent, digest=digest, iteration=iteration, **numbers)
        self._log.append(f"policy/{policy}", [fact], key=f"update {iteration}")
        return digest

    async def wait_for_probe(self, policy, digest):
        probe = PolicyProbed(digest=digest, tokens=(1, 2, 3), logprobs=(logprob(digest),) * 2)
        self._log.append(f"policy/{policy}", [probe], key=f"probe {digest}")
        return probe


class SharedRun:
    """A run on one scripted server, and its players."""

    def __init__(self, url: str, server: str, store: Path, stack: AsyncExitStack) -> None:
        self._url, self._store, self._stack, self.digests = url, store, stack, in_order(store)
        play = {"shares": 2, "iterations": ITERATIONS, "practice": 4, "practice_attempts": 2, "patience_s": 1}
        serve = {"backend": "vllm", "urls": [server]}
        self.config = Config(recipe="rlvr", play=play, serve=serve, evaluate={"first": False})
        self.log = self.open(create=True)
        first = dict.fromkeys(("teacher", "student"), self.digests[0])
        self.log.append("run", [RunStarted(config=self.config.model_dump(mode="json"), versions={}, commit="", policies=first)])

    def open(self, **options):
        return self._stack.enter_context(closing(open_log(self._url, **options)))

    async def player(self, name: str, *, loads: bool = False):
        log, first = self.open(), self.digests[0]
        weights = {"shared": PolicyWeights(self._store / first, first)}
        opening = open_models(self.config, weights, Path(), Activity(), SharedServers("run", loads))
        models = await self._stack.enter_async_context(opening)
        play = benchmark.assemble(PlayerLog(log, name), log, self.config, models["shared"])
        self._stack.callback(play.share_player.claims.close)
        play.weights = replace(
            play.weights,
            store=self._store,
            trainer=Learner(play.log, self.digests),
            digests=dict.fromkeys(("teacher", "student"), first),
        )
        return play

    def samplers(self) -> set[str]:
        """The players whose completions are recorded."""
        return {event.observed["player"] for event in self.log.read() if isinstance(event.fact, AttemptsMade)}

    def policies_are_those_of_their_iterations(self) -> bool:
        policies = [
            event.fact.policies["student"] for event in self.log.read("run") if isinstance(event.fact, IterationStarted)
        ]
        made = [event for event in self.log.read() if isinstance(event.fact, AttemptsMade)]
        return bool(made) and all(
            event.fact.generation.policy == policies[int(event.stream.split("/")[1]) - 1] for event in made
        )


@asynccontextmanager
async def shared_run(postgres: str, store: Path):
    script = VllmScript()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    server = web.AppRunner(app)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.cleanup)
        url = f"{postgres}?run=shared{next(RUNS)}"
        yield SharedRun(url, f"http://127.0.0.1:{server.addresses[0][1]}", store, stack), script, url


async def test_the_coordinator_alone_loads_weights_and_a_late_reply_is_not_recorded(postgres, store, monkeypatch):
    monkeypatch.setattr(replicas, "_OTHERS_POLL_S", 0.01)
    over, asleep = asyncio.Event(), asyncio.Event()
    async with shared_run(postgres, store) as (run, _, url):
        await (await run.player("alone", loads=True)).run()
        alone = benchmark.record(url)
    async with shared_run(postgres, store) as (run, script, url):
        coordinator, player, late = [await run.player(name, loads=name == "first") for name in ("first", "second", "late")]
        generate = late.weights.models["shared"].generate

        async def reply_late(requests):
            answers = await generate(requests)
            asleep.set()
            await over.wait()
            return answers

        late.weights.models["shared"].generate = reply_late
        play_all = coordinator.share_player.play_all

        async def play_once_others_do(board):
            while "second" not in run.samplers():
                await asyncio.sleep(0.02)
            await play_all(board)

        coordinator.share_player.play_all = play_once_others_do

        async def coordinate():
            await coordinator.run()
            over.set()

        async def join_later():
            await asleep.wait()
            await Player(player).run()

        await asyncio.gather(coordinate(), join_later(), Player(late).run())
        # Weights are loaded once a delivery, whoever samples with them.
        assert script.loaded == run.digests
        assert run.policies_are_those_of_their_iterations()
        assert run.samplers() == {"first", "second"}
        assert benchmark.record(url) == alone


async def test_a_player_does_not_sample_from_servers_with_other_weights(postgres, store):
    async with shared_run(postgres, store) as (run, script, _):
        script.loaded.append("ffff")
        player = await run.player("second")
        probe = PolicyProbed(digest=run.digests[0], tokens=(1, 2, 3), logprobs=(logprob(run.digests[0]),) * 2)
        with pytest.raises(ModelError, match="does not serve them: its logprobs of the probe differ"):
            await player.weights.load("shared", probe)
        assert script.loaded == ["ffff"]


def test_adapters_have_one_name_for_all_players():
    from roles.models.vllm import VllmModel

    servers = replicas.Replicas(["http://127.0.0.1:9"], "base", Digest("0" * 64))
    models = [VllmModel(servers, WEIGHTS, run="abcd", loads=loads) for loads in (True, False)]
    asyncio.run(models[1].load_weights(Path("nowhere"), Digest("1" * 64)))
    assert models[1]._name == models[0]._adapter_name(Digest("1" * 64)) == f"{'1' * 16}-abcd"
    asyncio.run(models[1].load_weights(Path("nowhere"), Digest("0" * 64)))
    assert models[1]._name == "base"
