"""Masks secrets in operational logs, error messages and failures in the event log.

A secret is recognised by its name (`OPENAI_KEY`, `password`), by its form (`sk-...`, a URL with a password, a private key), or
because an environment variable with such a name holds it. Other secrets are not recognised. Masking takes time linear in the
text, whatever the text is: patterns start where a run of characters begins, and their quantifiers are possessive.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from functools import lru_cache
from typing import Final, Literal

from events.text.safe_text import one_line

MASK: Final = "***"
MIN_SECRET_LENGTH: Final = 6
"""Shorter values of the environment are not masked: they are hardly secrets, and would mask half of every text."""

MAX_MESSAGE_LENGTH: Final = 4_000
"""Characters of a message."""

Certainty = Literal["no", "maybe", "yes"]
"""Whether a value is a secret by its name; `maybe` leaves it to what the value looks like."""

_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_LONGEST_NAME: Final = 100
_SUFFIXES: Final = frozenset("base base64 b64 hex pem old new prod production dev test staging value".split())
"""Words behind a secret's name that do not make it another thing: `SECRET_KEY_BASE`, `API_KEY_OLD`, `PASSWORD_2`."""
_SURE: Final = (
    *"password passwd passphrase passcode secret credential credentials authorization".split(),
    *"apikey secretkey accesskey privatekey accesstoken authtoken".split(),
)
_KEYS_OF: Final = frozenset("api access secret private auth service account signing encryption master".split())
"""Words before `keys` that make them secrets."""
_PLAIN_KEYS: Final = frozenset(
    """primary foreign sort sorting sorted public cache partition group index dict map row column unique composite natural
    surrogate lookup dedup idempotency search hash hot arrow left right any every each next first last same other compare
    json object query param config setting settings option this that the a an its tree given by nested with""".split()
)
"""Words before `key` that make it a key of data, no secret."""
_PLAIN_TOKENS: Final = frozenset(
    """eos bos pad unk mask sep cls stop start end begin special next previous prev first last per a an the this that each
    every one new current image word sub prompt completion chat reserved added extra any no fill prefix suffix middle csv
    mean""".split()
)
"""Words before `token` that make it a piece of a text."""
_PLAIN_PASSES: Final = frozenset(
    "first second third last one two single multi forward backward full final next compiler by low high band did".split()
)
_ACCESS: Final = frozenset("github gitlab gh gl azure devops ado jira bitbucket git".split())
"""Names before `pat` in which it is a personal access token and not a pattern, in lower case too."""

_VALUE: Final = re.compile(
    r"""(?P<scheme>(?:(?:basic|bearer|token|digest|negotiate|apikey|aws4-hmac-sha256)\s++)?+)(?P<value>
        \\++["'][^"'\\\n]*+(?:\\++["'])?+
        |[bfru]{0,2}+(?:"{3}(?:[^"\\]|\\.)*+"*+|'{3}(?:[^'\\]|\\.)*+'*+
            |"(?!")(?:[^"\\\n]|\\.)*+"?+|'(?!')(?:[^'\\\n]|\\.)*+'?+)
        |[^\s&'"]++(?:['"][^\s&'",;)\]}]++)*+)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""The value behind a name: in quotes of any kind, or up to a blank."""
_ASSIGNING: Final = re.compile(
    r"""(?<![\w-])(?:
        (?P<name>-*+(?:(?:api|access|secret|private|account)[ ])?\w[\w-]*+)
        (?P<between>(?:\\*+["'])?+\s*+(?:=>|:=|==?|:(?!//))\s*+)
        |(?P<option>--++\w[\w.-]*+)[ ]++)""",
    re.IGNORECASE | re.VERBOSE,
)
"""`name=`, `"name": `, `name: `, the same escaped in a string, and `--name `."""
_COOKIE: Final = re.compile(r"(?<![\w-])((?:set-)?cookie\s*+:\s*+)[^\n'\"]++", re.IGNORECASE)
_PLAIN_VALUE: Final = re.compile(r"[-+]?[\d.,]{1,12}|true|false|yes|no|on|off|none|null|nan|str|int|bytes|/.*", re.IGNORECASE)
"""Values that are no secrets."""

_RUN: Final = re.compile(r"[^\s'\"<>]++")
_USER: Final = re.compile(r":/{1,2}[^\s/:@]*+:")
_PORT: Final = re.compile(r"\d{1,5}(?:[/?#]|$)")
_USER_ALONE: Final = re.compile(r"(:/{1,2})[\w.%~+-]{20,}+@")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----END)[\w+/=\s\\:,.-])*+(?:-----END [A-Z0-9 ]{0,60}-----)?+"
)
_BASIC: Final = re.compile(r"(?<![\w-])(basic\s++)([\w+/-]{6,}+={0,2}+)", re.IGNORECASE)
_BEARER: Final = re.compile(r"(?<![\w-])(bearer\s++)([\w.~+/=-]{6,}+)", re.IGNORECASE)
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)*+")
_AWS: Final = re.compile(r"(?<![A-Za-z0-9])(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])")
_PREFIXED: Final = re.compile(
    r"""(?<![A-Za-z0-9])(
        sk-|sk_(?:live|test)_|rk_(?:live|test)_|hf_|gh[pousr]_|github_pat_|gl(?:pat|dt|rt|cbt|soat)-|xox[a-z]-|xapp-|AIza|ya29\.
        |npm_|pypi-|dop_v1_|doo_v1_|SG\.|nvapi-|gsk_|r8_|xai-|pplx-|lsv2_|tgp_v1_|shp(?:at|ca|ss)_|dckr_pat_|AGE-SECRET-KEY-|whsec_
    )([\w-]{16,}+)""",
    re.VERBOSE,
)
_QUERY: Final = re.compile(r"([?&](?:key|sig|signature|auth|x-amz-signature)=)[^\s&'\"#]++", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a value of this name is a secret: a setting, an environment variable, a header, a field."""
    return certainty(name) != "no"


@lru_cache(4096)
def certainty(name: str) -> Certainty:
    """Whether a value of this name is a secret.

    `token`, `pass` and a `..._key` may be other things (a piece of a text, a result, a key of a table); then the value decides.
    """
    parts = [part.lower() for part in _NAME_PART.findall(name[-_LONGEST_NAME:])]
    while len(parts) > 1 and (parts[-1] in _SUFFIXES or parts[-1].isdigit()):
        parts.pop()
    if not parts:
        return "no"
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if last.endswith(_SURE):
        return "yes"
    match last:
        case "key" if before and before not in _PLAIN_KEYS:
            return "maybe"
        case "keys" if before in _KEYS_OF:
            return "maybe"
        case "pass" if before not in _PLAIN_PASSES:
            return "maybe"
        case "pwd" if before:
            return "yes"
        case "pat" if before in _ACCESS or (before and name.isupper()):
            return "yes"
        case _ if last.endswith("token") and before not in _PLAIN_TOKENS:
            return "maybe"
    return "no"


def mask(text: str) -> str:
    """The text without the secrets in it."""
    for name, value in os.environ.items():
        if len(value) >= MIN_SECRET_LENGTH and is_secret(name) and not _PLAIN_VALUE.fullmatch(value):
            text = text.replace(value, MASK)
    if "-----BEGIN" in text:
        text = _PEM.sub(MASK, text)
    text = _PREFIXED.sub(_prefixed, text)
    text = _JWT.sub(MASK, _AWS.sub(rf"\1{MASK}", text))
    if ":/" in text and "@" in text:
        text = _USER_ALONE.sub(rf"\1{MASK}@", _RUN.sub(_url, text))
    text = _QUERY.sub(rf"\1{MASK}", text)
    text = _without_assigned(_COOKIE.sub(rf"\1{MASK}", text))
    return _BEARER.sub(_bearer, _BASIC.sub(_basic, text))


def safe_message(text: str, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """The text as a message for people: on one line, clean, without secrets, cut to `limit` characters."""
    return one_line(mask(text[: 4 * limit]), limit)


def _prefixed(match: re.Match[str]) -> str:
    prefix, rest = match.groups()
    # `sk-learn-contrib-tools` is a name: words of small letters with hyphens.
    words = prefix == "sk-" and all(part.isalpha() and part.islower() and len(part) < 16 for part in rest.split("-"))
    return match[0] if words else f"{prefix}{MASK}"


def _url(match: re.Match[str]) -> str:
    """A URL without its password, which may hold characters that a URL should escape."""
    run = match[0]
    end = run.rfind("@")
    user = _USER.search(run, 0, end) if end > 0 else None
    if user is None or _PORT.match(run, user.end(), end):
        return run
    return f"{run[: user.end()]}{MASK}{run[end:]}"


def _without_assigned(text: str) -> str:
    """The text without the values that stand behind the name of a secret."""
    parts, at = [], 0
    for match in _ASSIGNING.finditer(text):
        name = match["name"] or match["option"]
        if match.start() < at or (certainty(name) == "no" and name.lower() != "pwd"):
            continue
        behind = _VALUE.match(text, match.end())
        if behind is not None and _is_value(name, match["between"], behind["value"], text[behind.end() : behind.end() + 2]):
            parts += [text[at : behind.start("value")], MASK]
            at = behind.end()
    return "".join([*parts, text[at:]])


def _is_value(name: str, between: str | None, value: str, rest: str) -> bool:
    """Whether the value behind a name is a secret; `rest` is the text behind the value."""
    if between is None:
        # Sentences speak of options too.
        return _like_a_secret(value)
    if certainty(name) != "yes" and _PLAIN_VALUE.fullmatch(value.strip("\"'\\")):
        return False
    if name.lower() == "pwd":
        return "=" in between
    prose = name.lower() in ("token", "pass") and between.startswith(":") and rest[:1] == " " and rest[1:].isalnum()
    return not prose or _like_a_secret(value)


def _like_a_secret(value: str) -> bool:
    return len(value) >= 12 or (any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def _bearer(match: re.Match[str]) -> str:
    scheme, value = match.groups()
    return match[0] if value.isalpha() and len(value) < 16 else f"{scheme}{MASK}"


def _basic(match: re.Match[str]) -> str:
    scheme, value = match.groups()
    try:
        bare = value.rstrip("=")
        plain = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match[0]
    return f"{scheme}{MASK}" if b":" in plain else match[0]
