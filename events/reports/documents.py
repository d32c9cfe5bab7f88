"""Generates parts of documents from the code: `python -m events.reports.documents docs/log.md` writes the table of facts.

A generated part stands between two marks; the rest of the document is left alone. A test keeps generated parts current.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from events.facts.upcast import FACT_TYPES


def replace_generated(text: str, name: str, part: str, command: str = "make drawn") -> str:
    """The text with a new part between the marks of this name, which name the command that makes it."""
    begin, end = f"<!-- {name}: begin (made by `{command}`) -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{part}\n{end}{after}"


def generated_names(text: str, command: str) -> list[str]:
    """Names of the parts that a command makes, in the order of their marks."""
    return re.findall(rf"^<!-- ([\w-]+): begin \(made by `{re.escape(command)}`\) -->$", text, re.MULTILINE)


def fill_generated(text: str, command: str, parts: Mapping[str, str]) -> str:
    """The text with every part that a command makes.

    Raises:
        KeyError: the text has marks for a part that is not among these.
    """
    for name in generated_names(text, command):
        text = replace_generated(text, name, parts[name], command)
    return text


def facts_table() -> str:
    """Every kind of fact as a Markdown table."""
    rows = ["| kind | what happened | fields |", "|---|---|---|"]
    for kind, fact in FACT_TYPES.items():
        meaning = (fact.__doc__ or "").split("\n")[0]
        fields = ", ".join(f"`{name}`" for name in fact.model_fields if name != "kind")
        rows.append(f"| `{kind}` | {meaning} | {fields} |")
    return "\n".join(rows)


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(replace_generated(document.read_text(), "facts", facts_table()))
