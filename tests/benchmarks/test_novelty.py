"""The novelty command lists quantiles and pairs of a file's questions."""

import json

import pytest

from benchmarks.novelty import main
from events.facts.errors import BadInput


def test_it_lists_quantiles_and_the_pairs_around_a_threshold(tmp_path, capsys) -> None:
    file = tmp_path / "questions.jsonl"
    questions = [("add one", "def f(x):\n    return x + 1"), ("count vowels", "def f(s):\n    return 3"), ("add one", None)]
    questions.append(questions[1])
    file.write_text("\n".join(json.dumps({"statement": statement, "program": program}) for statement, program in questions))
    main(str(file), ["ngrams"], around=1.0, pairs=1)
    printed = capsys.readouterr().out
    assert printed.startswith("4 proposals;")
    (row,) = (line for line in printed.splitlines() if line.startswith("| ngrams |"))
    # Of three that have an earlier one, only the copy is above every threshold.
    assert row.split(" | ")[7:] == ["1.000", *["33.3%"] * 5, "33.3% |"]
    assert printed.split("=== ngrams: 1.000\n")[1].split("\n--- and\n")[0].startswith("count vowels")


@pytest.mark.parametrize("content", ["", '{"statement": "alone"}', "no JSON", '{"program": "x = 1"}'])
def test_a_file_without_pairs_is_a_sentence(tmp_path, content) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(content)
    with pytest.raises(BadInput, match=r"two are needed|neither a run nor JSON lines"):
        main(str(file), ["ngrams"])
