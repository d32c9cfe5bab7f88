"""Asking servers over real connections: retries, back-pressure, limits of time, and errors that say which server and why."""

import asyncio
import signal
import sys
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from events.facts.errors import ModelError
from roles.models.replicas import Replicas, served_model_name

POLICY = "0" * 64


class ReplicaScript:
    """A server that answers by script; it remembers what it was asked, and how much of it at once."""

    def __init__(self, answer) -> None:
        self.answer, self.asked, self.keys, self.busy, self.most, self.left = answer, [], [], 0, 0, 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization"))
        self.asked.append((request.path_qs, await request.json() if request.can_read_body else None))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            return await self.answer(self)
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.busy -= 1


@asynccontextmanager
async def served(*scripts: ReplicaScript):
    runners, urls = [], []
    for script in scripts:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", script.handle)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield urls
    finally:
        for runner in runners:
            await runner.cleanup()


@asynccontextmanager
async def asking(*scripts: ReplicaScript, **settings):
    async with served(*scripts) as urls:
        replicas = Replicas(urls, "gasp", POLICY, **settings)
        try:
            yield replicas
        finally:
            await replicas.close()


async def well(_) -> web.Response:
    return web.Response(text="well")


async def slowly(_) -> web.Response:
    await asyncio.sleep(0.05)
    return web.Response(text="well")


async def never(_) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_fails_for_a_while_is_asked_again_in_the_same_words(status) -> None:
    async def answer(script: ReplicaScript) -> web.Response:
        return web.Response(status=status) if len(script.asked) < 3 else web.Response(text="well")

    script = ReplicaScript(answer)
    async with asking(script) as replicas:
        assert (await replicas.ask("/v1/completions", {"seed": 5}))[1] == b"well"
    assert script.asked == [("/v1/completions", {"seed": 5})] * 3


async def test_a_refusal_is_not_asked_again_and_is_told_in_the_servers_words_made_safe() -> None:
    async def answer(_) -> web.Response:
        return web.json_response({"error": {"message": "too long\x1b[2J\n" + "x" * 5000}}, status=400)

    script = ReplicaScript(answer)
    async with asking(script) as replicas:
        with pytest.raises(
            ModelError, match=r"vLLM at http://127.0.0.1:\d+ failed /v1/completions \(HTTP 400: too long"
        ) as error:
            await replicas.ask("/v1/completions", {})
    assert len(script.asked) == 1
    assert len(str(error.value)) < 600
    assert "\x1b" not in str(error.value)


async def test_the_key_is_brought_and_never_told() -> None:
    async def answer(script: ReplicaScript) -> web.Response:
        return web.Response(status=400, text=f"bad key {script.keys[0]}")

    script = ReplicaScript(answer)
    async with asking(script, key="k3y-of-mine") as replicas:
        with pytest.raises(ModelError) as error:
            await replicas.ask("/v1/completions", {})
    assert script.keys == ["Bearer k3y-of-mine"]
    assert "k3y-of-mine" not in str(error.value)


async def test_no_server_is_asked_more_at_once_than_allowed_and_all_are_busy() -> None:
    scripts = [ReplicaScript(slowly), ReplicaScript(slowly)]
    async with asking(*scripts, in_flight=3) as replicas:
        await asyncio.gather(*(replicas.ask("/v1/completions", {"seed": n}) for n in range(24)))
    assert [script.most for script in scripts] == [3, 3]
    assert [len(script.asked) for script in scripts] == [12, 12]


async def test_a_slow_server_gets_less() -> None:
    slow, quick = ReplicaScript(slowly), ReplicaScript(well)
    async with asking(slow, quick, in_flight=2) as replicas:
        waiting = iter(range(60))

        async def work() -> None:
            for number in waiting:
                await replicas.ask("/v1/completions", {"seed": number})

        await asyncio.gather(*(work() for _ in range(replicas.slots)))
    assert len(slow.asked) < 20 < len(quick.asked)


async def test_what_one_server_cannot_do_another_does() -> None:
    async def broken(_) -> web.Response:
        return web.Response(status=503)

    bad, good = ReplicaScript(broken), ReplicaScript(well)
    async with asking(bad, good, in_flight=4) as replicas:
        answers = await asyncio.gather(*(replicas.ask("/v1/completions", {"seed": n}) for n in range(8)))
    assert [body for _, body in answers] == [b"well"] * 8


async def test_a_server_that_answers_nothing_at_all_is_given_up_with_an_error_that_says_so() -> None:
    async with asking(ReplicaScript(never), timeout_s=0.2) as replicas:
        with pytest.raises(ModelError, match=r"no answer in 0\.2 seconds, not even to /health"):
            await replicas.ask("/v1/completions", {})


async def test_a_queue_that_is_longer_than_the_limit_is_waited_for_and_told_of() -> None:
    turn = asyncio.Lock()

    async def one_by_one(script: ReplicaScript) -> web.Response:
        match script.asked[-1][0]:
            case "/health":
                return web.Response()
            case "/metrics":
                written = 'vllm:generation_tokens_total{model_name="gasp"} 7.0\nvllm:generation_tokens_created{} 1.7e9'
                return web.Response(text=f'vllm:num_requests_running{{engine="0"}} 1.0\n{written}')
        async with turn:
            await asyncio.sleep(0.05)
        return web.Response(text="well")

    script = ReplicaScript(one_by_one)
    async with asking(script, timeout_s=0.2) as replicas:
        answers = await asyncio.gather(*(replicas.ask("/v1/completions", {"seed": n}) for n in range(16)))
        assert [body for _, body in answers] == [b"well"] * 16
        assert [path for path, _ in script.asked].count("/v1/completions") == 16
        slow = replicas.activity.warnings
    assert 1 <= len(slow) <= 4
    assert "is slow (vLLM writes 1, 0 wait" in slow[0]
    assert "serve.kv_cache_gib" in slow[0]


async def test_a_server_that_says_it_is_full_is_asked_until_it_is_not(monkeypatch) -> None:
    monkeypatch.setattr("roles.models.replicas._LONGEST_PAUSE_S", 0.02)

    async def full(script: ReplicaScript) -> web.Response:
        return web.Response(status=429) if len(script.asked) <= 10 else web.Response(text="well")

    async with asking(ReplicaScript(full), timeout_s=0.05) as replicas:
        assert (await replicas.ask("/v1/completions", {}))[1] == b"well"


SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"well")

    do_GET = do_POST
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@asynccontextmanager
async def process():
    """A server that is a process, and its URL."""
    started = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
    assert started.stdout is not None
    try:
        yield started, f"http://127.0.0.1:{int(await started.stdout.readline())}"
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def test_a_server_that_is_stopped_for_a_while_answers_when_it_goes_on_and_is_given_up_if_it_does_not() -> None:
    async with process() as (server, url):
        replicas = Replicas([url], "gasp", POLICY, timeout_s=4)
        server.send_signal(signal.SIGSTOP)
        waiting = asyncio.create_task(replicas.ask("/v1/completions", {}))
        await asyncio.sleep(1)
        assert not waiting.done()
        server.send_signal(signal.SIGCONT)
        assert (await waiting)[1] == b"well"
        await replicas.close()
        replicas = Replicas([url], "gasp", POLICY, timeout_s=0.5)
        server.send_signal(signal.SIGSTOP)
        with pytest.raises(ModelError, match="no answer in"):
            await replicas.ask("/v1/completions", {})
        await replicas.close()


async def test_servers_that_are_known_to_have_ended_are_not_asked_again() -> None:
    async def broken(_) -> web.Response:
        return web.Response(status=503)

    def check() -> None:
        raise ModelError("vLLM server 0 was killed by signal 9")

    script = ReplicaScript(broken)
    async with asking(script, check=check) as replicas:
        with pytest.raises(ModelError, match="killed by signal 9"):
            await replicas.ask("/v1/completions", {})
    assert len(script.asked) == 1


async def test_a_cancelled_question_is_taken_back() -> None:
    script = ReplicaScript(never)
    async with asking(script) as replicas:
        task = asyncio.create_task(replicas.ask("/v1/completions", {}))
        while not script.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(100):
            if script.left:
                break
            await asyncio.sleep(0.01)
    assert script.left == 1


async def test_weights_go_to_every_server_and_old_answers_are_forgotten(tmp_path) -> None:
    async def forgets(_) -> web.Response:
        return web.json_response({"success": True})

    scripts = [ReplicaScript(forgets), ReplicaScript(forgets)]
    async with asking(*scripts) as replicas:
        await replicas.load(tmp_path, "1" * 64)
        assert replicas.holds == "1" * 64
    for script in scripts:
        assert [path for path, _ in script.asked] == ["/collective_rpc", "/reset_prefix_cache"]
        assert script.asked[0][1] == {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path)}}


async def test_a_server_that_keeps_old_answers_is_an_error(tmp_path) -> None:
    async def keeps(_) -> web.Response:
        return web.json_response({"success": False})

    async with asking(ReplicaScript(keeps)) as replicas:
        with pytest.raises(ModelError, match="keeps cached prefixes of older weights"):
            await replicas.load(tmp_path, "1" * 64)
        assert replicas.holds == POLICY


async def test_servers_that_sleep_are_woken_once_before_they_are_asked() -> None:
    script = ReplicaScript(slowly)
    async with asking(script, sleeps=True) as replicas:
        await asyncio.gather(*(replicas.ask("/v1/completions", {}) for _ in range(3)))
        await replicas.sleep()
        await replicas.sleep()
        await replicas.ask("/v1/completions", {})
    paths = [path for path, _ in script.asked]
    assert paths == ["/wake_up", *["/v1/completions"] * 3, "/sleep?level=1", "/wake_up", "/v1/completions"]


async def test_servers_that_are_not_to_sleep_do_not_and_connections_may_be_closed_twice() -> None:
    script = ReplicaScript(well)
    async with asking(script) as replicas:
        await replicas.sleep()
        await replicas.ask("/v1/completions", {})
        await replicas.close()
        await replicas.close()
    assert [path for path, _ in script.asked] == ["/v1/completions"]


async def test_a_server_that_runs_already_is_asked_for_the_name_of_its_model() -> None:
    async def shows(script: ReplicaScript) -> web.Response:
        cards = [{"id": "an-adapter", "parent": "mine"}, {"id": "mine", "parent": None}]
        return web.json_response({"data": cards if len(script.asked) == 1 else []})

    script = ReplicaScript(shows)
    async with served(script) as (url,):
        assert await served_model_name(url, "k3y-of-mine") == "mine"
        with pytest.raises(ModelError, match=f"{url} does not say what it serves .*put its key into VLLM_API_KEY"):
            await served_model_name(url, None)
    assert script.asked == [("/v1/models", None)] * 2
    assert script.keys == ["Bearer k3y-of-mine", None]
