"""Generates parts of documents from the code: `python -m events.reports.documents docs/log.md` writes the table of facts.

A generated part stands between two marks; the rest of the document is left alone. A test keeps generated parts current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from events.facts.upcast import FACT_TYPES


def replace_generated(text: str, name: str, part: str) -> str:
    """The text with a new part between the marks of this name."""
    begin, end = f"<!-- {name}: begin (made by `make drawn`) -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{part}\n{end}{after}"


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
