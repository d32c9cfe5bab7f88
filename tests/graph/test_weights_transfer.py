"""Weights over HTTP: given by digest to who has the token, and kept only if they have the digest."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from events.facts.errors import BadInput, ModelError
from events.facts.values import Digest
from events.facts.weight_facts import WeightsPruned
from events.facts.weights import OPTIMIZER_FILE, weights_digest
from graph.setup.weights_transfer import TOKEN_VARIABLE, fetch_weights, remove_pruned, weights_server

POCKET = Path("roles/pocket/weights").resolve()
LOCAL = "127.0.0.1:0"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder with the pocket model's weights under their digest."""
    monkeypatch.setenv(TOKEN_VARIABLE, "sesame-sesame-sesame")
    digest = weights_digest(POCKET)
    shutil.copytree(POCKET, tmp_path / "weights" / digest)
    return tmp_path / "weights"


def digest_in(store: Path) -> Digest:
    (folder,) = store.iterdir()
    return Digest(folder.name)


def test_fetched_weights_are_those_that_were_asked_for(store, tmp_path, log):
    digest, mine = digest_in(store), tmp_path / "mine"
    with weights_server(store, LOCAL) as url:
        fetch_weights(url, digest, mine)
        # Nothing is fetched twice.
        (store / digest / "config.json").unlink()
        fetch_weights(url, digest, mine)
    assert [path.name for path in mine.iterdir()] == [digest]
    assert weights_digest(mine / digest) == digest
    assert (POCKET / OPTIMIZER_FILE).exists()
    assert not (mine / digest / OPTIMIZER_FILE).exists()
    log.append("policy/shared", [WeightsPruned(digests=(digest,))])
    remove_pruned(log, mine)
    assert not list(mine.iterdir())


def test_a_flipped_bit_is_found_and_nothing_is_kept(store, tmp_path):
    digest = digest_in(store)
    with (store / digest / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with weights_server(store, LOCAL) as url, pytest.raises(ModelError, match=r"came from http.* as .*; see whether its disk"):
        fetch_weights(url, digest, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_without_the_token_nobody_gets_anything(store, tmp_path, monkeypatch):
    digest = digest_in(store)
    with weights_server(store, LOCAL) as url:
        for path in (digest, f"{digest}/config.json", "", "../../etc/passwd"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{url}/{path}")
        monkeypatch.setenv(TOKEN_VARIABLE, "another-token-of-mine")
        with pytest.raises(ModelError, match=r"cannot be fetched from .*401.*; is the coordinator up, and the token the same"):
            fetch_weights(url, digest, tmp_path / "mine")
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(BadInput, match=f"set {TOKEN_VARIABLE} to the same 16 characters"), weights_server(store, LOCAL):
        pass


def test_with_the_token_only_weights_are_given(store):
    digest = digest_in(store)
    (store / "secret").write_text("mine")
    with weights_server(store, LOCAL) as url:
        for path in ("secret", f"{digest}/../../secret", f"{digest}/{OPTIMIZER_FILE}", f"../{store.name}/{digest}", "0" * 64):
            request = urllib.request.Request(f"{url}/{path}", headers={"Authorization": "Bearer sesame-sesame-sesame"})
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(request)


@pytest.mark.parametrize("address", ["8300", ":8300", "host:port", "127.0.0.1:99999", "192.0.2.1:8300"])
def test_an_address_that_cannot_be_served_is_told(store, address):
    sentence = r"(is no address for weights; write|cannot be served at .*; choose another) HOST:PORT"
    with pytest.raises(BadInput, match=sentence), weights_server(store, address):
        pass
