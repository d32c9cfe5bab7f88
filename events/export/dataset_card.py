"""The card of a dataset: its content, its origin, and the meaning of every column.

Guarantees: untrusted text is quoted in YAML and code in Markdown, so that it has no effect in either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile

import pyarrow as pa

from events.export.table_rows import TABLES
from events.facts.log import Head, Log, find_run_started
from events.facts.types import PolicyUpdated
from events.text.safe_text import printable

_CARD = """\
---
pretty_name: {pretty}
tags: [code, reinforcement-learning, self-play, gasp]
# license: the choice is yours; add one before you publish
configs:
{configs}
dataset_info:
{features}
---

# Rollouts of the run {name}

What a teacher and a student wrote in a run of guided asymmetric self-play ([GASP](https://arxiv.org/abs/2603.15957)), with
verdicts and rewards, taken from the run's event log.

```python
from datasets import load_dataset

attempts = load_dataset("FOLDER", "attempts", split="train")
solved = attempts.filter(lambda row: row["outcome"] == "passed")
```

- **Supervised learning**: `prompt` and `completion` are conversations of one message each, as TRL takes them.
- **Learning from exactly what was sampled**: take `prompt_ids`, `completion_ids`, `logprobs` and `reward`, and tokenise no text
  again. The model saw `prompt_ids`, and no chat template beyond what they show. The trainer learned from the rows that have a
  `reward` and whose `ending` is not `failed`; `role` says who wrote them, `phase` in which optimizer step they counted.
- **Lineage**: `policy` is the digest of the weights that sampled a completion. The update that learned from it has the
  `reward_position` behind its `after` and up to its `until`. `run`, `stream`, `version` and `index` name a completion for ever.

Programs and texts were written by models: run none of them outside a sandbox.

## How it was made

{origin}

## Columns

{columns}
"""
DEFAULT_TABLE = "attempts"
"""The table that `load_dataset` loads by default."""
_METRIC = "PHASE/METRIC"
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}
_ITEMS = {pa.bool_(): "bool", pa.int32(): "int32", pa.float32(): "float32", pa.string(): "string"}


def card(log: Log, head: Head, *, name: str, tables: Mapping[str, pa.Schema]) -> str:
    """The card of a run's dataset, of which `tables` are the columns, read up to `head` of the log."""
    return _CARD.format(
        pretty=_quoted(f"GASP rollouts of {name}"),
        configs="\n".join(
            f"- config_name: {table}\n  data_files: data/{table}.parquet\n  default: {json.dumps(table == DEFAULT_TABLE)}"
            for table in tables
        ),
        features="\n".join(_info(table, columns) for table, columns in tables.items()),
        name=_code(name),
        origin="\n".join(f"- {line}" for line in _origin(log, head)),
        columns="\n\n".join(_columns(table, columns) for table, columns in tables.items()),
    )


def _origin(log: Log, head: Head) -> Iterator[str]:
    if (started := find_run_started(log)) is not None:
        config = started.config
        yield f"recipe {_code(config.get('recipe'))}, seed {_code(config.get('seed'))}, code {_code(started.commit)}"
        for role, digest in started.policies.items():
            yield f"{role} at the start: weights {_code(digest)}"
    last: dict[str, PolicyUpdated] = {}
    for event in takewhile(lambda event: event.position <= head.position, log.read(kinds=("policy_updated",))):
        if isinstance(event.fact, PolicyUpdated):
            last[event.fact.policy] = event.fact
    for update in last.values():
        yield f"{_code(update.policy)} after iteration {update.iteration}: weights {_code(update.digest)}"
    yield f"{head.position} events, head of the log {_code(head.digest)}"


def _info(table: str, columns: pa.Schema) -> str:
    features = (f"  - name: {_quoted(field.name)}\n    {_feature(field.type)}" for field in columns)
    return "\n".join([f"- config_name: {table}", "  features:", *features])


def _feature(kind: pa.DataType) -> str:
    if not pa.types.is_list(kind):
        return f"dtype: {_DTYPES[kind]}"
    if kind.value_type in _ITEMS:
        return f"list: {_ITEMS[kind.value_type]}"
    return "\n    ".join(["list:", *(f"- name: {field.name}\n      dtype: string" for field in kind.value_type)])


def _columns(table: str, columns: pa.Schema) -> str:
    row = TABLES[table].row
    kinds = {field.name: field.type for field in columns} | {"metrics": pa.float64()}
    lines = [
        f"| {_code(_METRIC if name == 'metrics' else name)} | {_code(kinds[name])} | {info.description} |"
        for name, info in row.model_fields.items()
    ]
    return "\n".join([f"### {table}", "", str(row.__doc__), "", "| column | type | meaning |", "|---|---|---|", *lines])


def _quoted(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)


def _code(text: object) -> str:
    return f"`{printable(str(text)).replace('`', chr(39)).replace('|', '¦')}`"
