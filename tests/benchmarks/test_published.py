"""The comparison with EvalPlus: the shipped model's own evaluation is read from its log, and a table tells the sides apart."""

import gzip
import json
import subprocess

import pytest

from benchmarks.published import Comparison, OurSampling, our_verdicts, report
from tests.support.forked_commands import ForkingPopen

pytestmark = [pytest.mark.docker, pytest.mark.slow]

RECORDS = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def {name}(x):\n    """{name}"""\n',
        "entry_point": name,
        "canonical_solution": "    return x + 1\n",
        "base_input": [[1], [2]],
        "plus_input": [[3]],
        "atol": 0,
    }
    for number, name in enumerate(("successor", "increment"))
]


def test_verdicts_and_completions_of_an_evaluation_are_read_by_name(tmp_path, monkeypatch):
    """The pocket model solves neither; both completions are there to be judged again."""
    file = tmp_path / "records.jsonl.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in RECORDS).encode()))
    monkeypatch.setattr(subprocess, "Popen", ForkingPopen)
    sampling = OurSampling("transformers", threads=1, max_prompt_tokens=256, max_tokens=96)
    verdicts, completions = our_verdicts("pocket", f"humanevalplus:{file}", "pocket", tmp_path, sampling)
    assert verdicts == {"HumanEval/0": False, "HumanEval/1": False}
    assert [row.name for row in completions] == list(verdicts)
    assert all(row.text and row.entry.rules == "evalplus" for row in completions)


def test_the_table_has_rates_and_the_questions_that_one_side_alone_solves():
    ours = {"Mbpp/2": True, "Mbpp/3": True, "Mbpp/4": False, "Mbpp/6": False}
    theirs = {"Mbpp/2": True, "Mbpp/3": False, "Mbpp/4": True, "Mbpp/6": True}
    compared = Comparison("MBPP+", "short", ours, rejudged={**ours, "Mbpp/6": True}, alone=ours, theirs=theirs)
    lines = list(report([compared, Comparison("MBPP+", "base", ours)]))
    assert lines[2:4] == [
        "| MBPP+ | `short` | 4 | 50.0 | 75.0 | 50.0 | 75.0 | -25.0 | 1 | 2 |",
        "| MBPP+ | `base` | 4 | 50.0 | – | – | – | – | – | – |",
    ]
    assert lines[5::2] == [
        "MBPP+, `short`, only ours passes: Mbpp/3.",
        "MBPP+, `short`, only EvalPlus's passes: Mbpp/4, Mbpp/6.",
        "MBPP+, `short`, EvalPlus judges our completion otherwise: Mbpp/6.",
    ]
