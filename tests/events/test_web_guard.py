import hashlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from events.cli.app import open_run
from events.facts.errors import LogError
from events.facts.log import ReadableLog
from events.facts.types import GoalpostAdded
from events.stores import open_log
from events.web import server
from events.web.app import make_app
from events.web.security import HEADERS, RequestGuard, is_loopback
from events.web.view.viewer import Viewer
from tests.support.example_runs import ExampleRun, example_run
from tests.support.paths import ROOT
from tests.support.processes import start_command
from tests.support.viewer_client import crawl, record_run, stream_messages, wait_until_indexed


def test_every_answer_has_the_headers_that_keep_a_page_to_itself(browser: TestClient) -> None:
    for address in ("/", "/runs/first", "/runs/first.json", "/static/style.css", "/nothing", "/runs/none"):
        answer = browser.get(address)
        assert HEADERS.items() <= dict(answer.headers).items() | {(name, answer.headers[name]) for name in HEADERS}
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_whatever_would_change_something_is_refused(browser: TestClient, method: str) -> None:
    for address in ("/", "/runs/first", "/runs/first/events", "/live", "/static/style.css"):
        assert browser.request(method, address).status_code == 405


def test_head_is_answered_as_get_without_the_body(browser: TestClient) -> None:
    answer = browser.head("/runs/first")
    assert answer.status_code == 200
    assert answer.content == b""


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_looking_changes_nothing_but_the_cache_beside_the_log(tmp_path: Path) -> None:
    record_run(tmp_path / "run").log.close()
    before = digests(tmp_path / "run")
    with closing(Viewer([str(tmp_path / "run")])) as viewer:
        wait_until_indexed(viewer, "run")
        crawl(TestClient(make_app(viewer)), 3)
    after = digests(tmp_path / "run")
    assert after["log.sqlite"] == before["log.sqlite"]
    assert {name.partition(".")[0] for name in after if not name.startswith("log.sqlite")} == {"index"}


def test_the_viewers_log_cannot_be_appended_to(viewer: Viewer, example: ExampleRun) -> None:
    before = example.log.head()
    log = viewer.run("first").log
    with pytest.raises(LogError):
        log.append("run", [GoalpostAdded(question="0" * 16, blob="0" * 64, source="x")])
    assert example.log.head() == before


def test_a_database_refuses_what_was_opened_for_reading(postgres: str) -> None:
    url = f"{postgres}?run=web_reading"
    with closing(open_log(url, create=True)) as log:
        example = example_run(log).run(recipe="gasp").goalpost(1).play().update()
        with closing(open_run(url, read_only=True)) as reading:
            with pytest.raises(LogError):
                reading.append("run", [GoalpostAdded(question="0" * 16, blob="0" * 64, source="x")])
            assert reading.head() == example.log.head()
            with closing(reading.subscribe()) as subscription:
                example.play()
                assert subscription.wait(5)


def test_the_reading_half_of_a_log_has_no_word_for_writing() -> None:
    assert not {"append", "submit", "put", "take", "take_keys"} & set(dir(ReadableLog))
    for path in (ROOT / "events" / "web").rglob("*.py"):
        text = path.read_text()
        for word in ("open_log", ".submit(", ".put(", "SqliteLog", "PostgresLog", "create=True", "import Log\n", " Log,"):
            assert word not in text, f"{path.name} holds {word}"
    opened = [path.name for path in (ROOT / "events" / "web").rglob("*.py") if "open_run(" in path.read_text()]
    assert opened == ["log_follower.py"]


def test_loopback_answers_to_its_own_names_only(viewer: Viewer) -> None:
    browser = TestClient(make_app(viewer, hosts={"localhost", "127.0.0.1", "[::1]"}))
    for host in ("localhost:8321", "127.0.0.1:8321", "LOCALHOST", "[::1]:8321", "[::1]"):
        assert browser.get("/static/style.css", headers={"host": host}).status_code == 200, host
    for host in (
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "localhost@evil.example",
        "0.0.0.0",
    ):
        answer = browser.get("/", headers={"host": host})
        assert answer.status_code == 421, host
        assert "first" not in answer.text


def test_without_the_token_nothing_is_answered_not_even_style(viewer: Viewer) -> None:
    browser = TestClient(make_app(viewer, token="open-sesame"))
    for address in (
        "/",
        "/runs/first",
        "/runs/first.json",
        "/static/style.css",
        "/live",
        "/runs/first/live",
        "/?token=wrong",
        "/?token=",
    ):
        answer = browser.get(address)
        assert answer.status_code == 401, address
        assert "first" not in answer.text
        assert "open-sesame" not in str(answer.headers)


def test_a_token_is_sent_once_and_then_kept_where_no_script_sees_it(viewer: Viewer) -> None:
    browser = TestClient(make_app(viewer, token="open-sesame", cookie="gasp-1"))
    answer = browser.get("/runs/first?token=open-sesame&a=%26b", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/first?a=%26b"
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept
    assert "samesite=strict" in kept
    assert browser.get("/runs/first").status_code == 200
    assert TestClient(browser.app).get("/", headers={"authorization": "Bearer open-sesame"}).status_code == 200
    assert TestClient(browser.app).get("/", headers={"cookie": "gasp-1=open-sesam"}).status_code == 401
    assert TestClient(browser.app).get("/", headers={"cookie": 'gasp-1="\x00;;=,'}).status_code == 401


def test_the_token_never_leads_to_another_site(viewer: Viewer) -> None:
    browser = TestClient(make_app(viewer, token="open-sesame"))
    answer = browser.get("//evil.example/x?token=open-sesame", follow_redirects=False)
    assert not answer.headers.get("location", "/").startswith("//")
    assert urlsplit(answer.headers.get("location", "/")).netloc in ("", "testserver")


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_the_guard_compares_in_constant_time_whatever_the_token_holds(viewer: Viewer) -> None:
    guard = RequestGuard(make_app(viewer), hosts=None, token="gr\u00fc\u00dfe")
    assert guard._is_token("gr\u00fc\u00dfe")
    assert not guard._is_token("\ud83d\ude00")


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe", "sec-fetch-user": "?1"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1", "host": "localhost:2"},
    ],
)
def test_what_another_site_asks_for_is_refused(viewer: Viewer, headers: dict[str, str]) -> None:
    for guarded in (make_app(viewer), make_app(viewer, token="open-sesame")):
        for address in ("/", "/runs/first.json?token=open-sesame", "/static/style.css", "/live"):
            answer = TestClient(guarded).get(address, headers=headers, follow_redirects=False)
            assert (answer.status_code, "first" in answer.text) == (403, False), address


def test_our_own_pages_and_a_link_that_somebody_follows_are_answered(browser: TestClient) -> None:
    clicked = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-user": "?1"}
    for headers in (
        {"sec-fetch-site": "same-origin", "origin": "http://testserver"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", **clicked},
        {},
    ):
        assert browser.get("/runs/first", headers=headers).status_code == 200
    assert browser.post("/runs/first", headers={"sec-fetch-site": "cross-site", **clicked}).status_code == 403


def test_an_address_that_is_too_long_is_not_looked_at(browser: TestClient) -> None:
    for length in (12_000, 60_000):
        for address in (f"/runs/{'a' * length}", f"/runs/first/search?q={'a' * length}", f"/{'%20' * (length // 3)}"):
            assert browser.get(address).status_code == 414
    assert browser.get("/", headers={"x": "a" * 100_000}).status_code == 431
    assert browser.get(f"/runs/{'a' * 7_000}").status_code == 404


@pytest.fixture
def impatient(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that waits half a second for requests."""
    assert server.REQUEST_TIMEOUT_S <= 10
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        running = server.ViewerServer(make_app(viewer), viewer)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        viewer.end()
        running.should_exit = True
        thread.join()


HEAD = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n"


def test_a_request_that_does_not_become_whole_is_let_go(impatient: int) -> None:
    cases = [
        (b"", b""),
        (b"GET /", b""),
        (b"GET /", b"a"),
        (HEAD, b"X-A: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"a"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (HEAD + b"\r\n", b""),
        (HEAD + b"\r\nGET /", b"a"),
    ]
    waiting = {socket.create_connection(("127.0.0.1", impatient)): case for case in cases}
    for half, (begin, _) in waiting.items():
        half.settimeout(0.05)
        half.sendall(begin)
    began = time.monotonic()
    while waiting and time.monotonic() - began < 20:
        for half, (_, more) in list(waiting.items()):
            with suppress(TimeoutError):
                try:
                    half.sendall(more)
                    ended = half.recv(1 << 20) == b""
                except ConnectionError:
                    ended = True
                if ended:
                    half.close()
                    del waiting[half]
    assert list(waiting.values()) == []


def test_who_listens_is_not_let_go_and_an_endless_address_is_refused(impatient: int) -> None:
    with httpx.stream("GET", f"http://localhost:{impatient}/live", timeout=20) as answer:
        time.sleep(1.2)
        assert next(stream_messages(answer))
    with socket.create_connection(("127.0.0.1", impatient)) as endless:
        with suppress(OSError):
            endless.sendall(b"GET /" + b"a" * 1_000_000)
        assert endless.recv(100).startswith(b"HTTP/1.1 414")


def start(*words: object, **environment: str) -> subprocess.Popen[str]:
    return start_command("events.web", *words, fresh=False, **environment)


def test_the_command_says_its_address_and_ends_at_ctrl_c_though_somebody_listens(example: ExampleRun) -> None:
    running = start(example.log.path.parent, "--port", 0)
    address = running.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    with httpx.stream("GET", f"{address}runs/first/live", timeout=20) as answer:
        next(stream_messages(answer))
        assert httpx.get(address, headers={"host": "evil.example"}).status_code == 421
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=20)
    assert time.monotonic() - began < 4
    assert errors == ""
    assert running.returncode == 130


def test_elsewhere_than_on_loopback_the_command_makes_a_token(example: ExampleRun) -> None:
    running = start(example.log.path.parent, "--host", "0.0.0.0", "--port", 0)
    address = running.stdout.readline().strip()
    try:
        port = urlsplit(address).port
        assert "?token=" in address
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 401
        with httpx.Client(follow_redirects=True) as client:
            answer = client.get(address.replace("0.0.0.0", "127.0.0.1"))
            assert answer.status_code == 200
            assert "token" not in str(answer.url)
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)


@pytest.mark.parametrize("words", [["no/such/run"], ["{run}", "--host", "203.0.113.1"], ["{run}", "--port", "{taken}"]])
def test_what_cannot_be_served_is_one_sentence(example: ExampleRun, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wait_until_indexed = {"run": example.log.path.parent, "taken": taken.getsockname()[1]}
        running = start(*[word.format(**wait_until_indexed) for word in words])
        _, errors = running.communicate(timeout=20)
    assert running.returncode == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
