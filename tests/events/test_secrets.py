"""What is masked by its name or its form, what is not, and that masking is quick on whatever text."""

from __future__ import annotations

import time

import pytest

from events.text.secrets import is_secret, mask, safe_message

S = "x7f-Gq2"
NAMED = [
    *("OPENAI_KEY", "SECRET_KEY", "PRIVATE_KEY", "DJANGO_SECRET_KEY", "MY_SIGNING_KEY", "GITHUB_PAT", "AZURE_DEVOPS_PAT"),
    *("DB_PASS", "smtp_pass", "HF_TOKEN", "access_token", "X-Api-Key", "clientSecret", "server.api_key", "SECRET_KEY_BASE"),
    *("API_KEY_2", "PGPASSWORD", "passphrase", "apikey", "authToken", "DB_PWD"),
]
WRITTEN = [
    "{name}={secret}", "{name}: {secret}", 'export {name}="{secret} and more {secret}"',
    "'{name}': '{secret}', 'x': 1", '{{"{name}": "{secret}\\" {secret}"}}',
    '{{\\"{name}\\": \\"{secret} {secret}\\"}}', "f({name}=b'{secret}')", "http://host/?a=b&{name}={secret}&c=d",
    "--{name} {secret} --other", "---{name}={secret}",
]  # fmt: skip
FORMS = [
    f"password: {S}", f"the OpenAI API key: {S}", "Token: {0}\nand token: {0}".format(S.replace("7", "")),
    f"Password={S}'{S}", f"Authorization: Basic {S}", f"proxy-authorization: Bearer {S}",
    f"-H 'Authorization: token {S}'", f"Bearer {S}", f"Cookie: session={S}; other={S}", f"postgres://me:{S}@host/db",
    f"redis://:{S}@host", f"https://me:{S}@x@host/path", f"https://me:{S}/y@host/path",
    f"see https://storage.example/a?sig={S}&x=1",
]  # fmt: skip
TOKENS = [
    *("sk-proj-abcdefghijklmnopqrstuvwx", "sk-abcdefghijklmnopqrstuvwx", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
    *("hf_abcdefghijklmnopqrstuvwx", "AKIAIOSFODNN7EXAMPLE", "glpat-abcdefghijklmnopqrst", "github_pat_11AAAAAAA0abcdefghijkl"),
    *("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def_ghi", "xoxb-123456789012-abcdefghijkl", "Basic bWU6eDdmLUdxMg=="),
]
INNOCENT = [
    *("monkey=banana1", "keyboard: us", "token_ids: [1, 2]", "max_tokens: 96", "num_tokens=3", "keys: 3", "sorted(x, key=len)"),
    "primary_key: id1", "eos_token: </s>1", "tokenizer=gpt2", "token: 5",
    "public_key=abc1", "pass: 3", "passed=8", "pass@1: 0.5",
    "pass_rate: 0.5", "bypass=a1", "compass: n1", "author: me",
    "secretary: Bob1", "http://localhost:8000/v1/a@b", "PWD=/home/x",
    "postgresql://me@host/db", "bearer tokens", "basic arithmetic",
    "KeyError: 'abc1'", "sk-learn-contrib-package", "PATH=/usr/bin",
    "give --token or none", "api_key: none", "the token: a word", "hotkey=F12345", "task-oriented-programming-with-things",
    "password_file=/run/x", "http://[::1]:8000/", "next_token: foo12",
    "top_k: 5 key: 'v1'", "file_pat = 'a1b'", "git@github.com:a/b",
]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", NAMED)
def test_a_secret_is_known_by_its_name_however_it_is_written(name: str, written: str) -> None:
    shown = mask(f"before {written.format(name=name, secret=S)} behind")
    assert is_secret(name)
    assert S not in shown
    assert shown.startswith("before ")
    assert name in shown


@pytest.mark.parametrize("text", FORMS)
def test_a_secret_is_known_by_where_it_stands(text: str) -> None:
    for shown in (mask(f"{text}, behind"), mask(f"({text}")):
        assert S not in shown
        assert S.replace("7", "") not in shown


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_known_by_its_form(token: str) -> None:
    for text in (token, f"the key is {token}.", f"'{token}'", f"https://x/{token}/y"):
        assert token.split(" ")[-1] not in mask(text)


def test_a_private_key_is_masked_whole_and_what_follows_stays() -> None:
    body = "MIIEow+/=\n" * 20
    for kind in ("RSA ", "OPENSSH ", ""):
        text = f"read -----BEGIN {kind}PRIVATE KEY-----\n{body}-----END {kind}PRIVATE KEY-----\nand went on"
        assert mask(text) == "read ***\nand went on"
        assert "MIIE" not in mask(text[: len(text) // 2])
        assert "MIIE" not in safe_message(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


PIECES = ["a", "a:", "a ", "a:a ", "://a:", "http://a:b", "@", ":/:", " ", "'", '"', "\\", '\\"', "-", "--a ", "--key ", "key="]
PIECES += [
    "password='", "password ", 'token: "', "-----BEGIN PRIVATE KEY-----",
    "bearer ", "basic ", "sk-", "eyJaaaaaaaa.", "&key=",
]  # fmt: skip


@pytest.mark.parametrize(
    "piece", [*PIECES, *(f"password{piece}=" for piece in PIECES), *(f"{piece}password:" for piece in PIECES)]
)
def test_masking_takes_time_in_proportion_to_the_text(piece: str) -> None:
    # 50 ms on an idle core; the quadratic patterns that were here took minutes for a text of this size.
    text = (piece * 100_000)[:100_000]
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 0.5


def test_a_sentence_is_cut_before_it_is_masked() -> None:
    began = time.process_time()
    assert len(safe_message("password=a1 " * 1_000_000)) == 4_000
    assert time.process_time() - began < 0.5
