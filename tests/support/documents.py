"""What stands in the documents for readers to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def examples(page: Path) -> list[list[str]]:
    """Words behind `gasp` of each line in the console blocks of a document."""
    lines = [shlex.split(line, comments=True) for block in blocks(page.read_text(), "console") for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["gasp"]]
