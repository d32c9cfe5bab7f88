"""Keeps secrets out of what is written down: operational logs, error messages, failures in the event log.

Law: what looks like a secret by its name or by its form, or is the value of an environment variable with such a name, is
masked; one mask too many does no harm. It cannot know a secret that looks like nothing.
"""

from __future__ import annotations

import os
import re

MASK = "***"
SHORTEST = 6
"""Values of the environment that are shorter are no secrets worth the name, and would mask half of every text."""

_WORDS = r"password|passwd|passphrase|secret|credentials?|authorization|api[_-]?key|access[_-]?key|token"
_NAME = re.compile(rf"({_WORDS})$", re.IGNORECASE)
_FORMS = (
    (re.compile(r"([a-z][a-z0-9+.-]*:/{1,2}[^\s/:@]*):[^\s'\"]*@", re.IGNORECASE), rf"\1:{MASK}@"),
    (re.compile(rf"(\w*(?:{_WORDS})\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&'\"]+)", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(bearer)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(hf_|sk-|gh[pousr]_|github_pat_)[\w-]{16,}"), rf"\1{MASK}"),
)


def is_secret(name: str) -> bool:
    """Whether a value of this name is a secret."""
    return _NAME.search(name) is not None


def masked(text: str) -> str:
    """The text without the secrets in it."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and is_secret(name):
            text = text.replace(value, MASK)
    for form, mask in _FORMS:
        text = form.sub(mask, text)
    return text
