"""What a student says when it is asked whether it is sure of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

WORDS: Final[Mapping[bool, str]] = MappingProxyType({True: " I am sure.", False: " I am unsure."})
"""What follows the question, by whether the answer is certain. R-Tuning, arXiv 2311.09677, section 2."""
