"""The hub by name: what is said without it, and that a local cache is used. Nothing here asks a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.paths import ROOT

LOAD = """
import sys
from events.facts.errors import BadInput
from roles.questions.load import load_questions
for setting in sys.argv[1:]:
    try:
        print([question.entry for question in load_questions(setting, "test").questions])
    except BadInput as error:
        print("refused:", error)
"""
CACHE = """
import sys
from pathlib import Path
from datasets import Dataset, DatasetInfo, SplitInfo
from datasets.arrow_writer import ArrowWriter
from datasets.splits import SplitDict
import json
name, rows = "openai_humaneval", json.loads(sys.argv[2])
folder = Path(sys.argv[1]) / "openai___openai_humaneval" / name / "0.0.0" / ("7" * 40)
folder.mkdir(parents=True)
features = Dataset.from_list(rows).features
writer = ArrowWriter(path=str(folder / f"{name}-test.arrow"), features=features)
for row in rows:
    writer.write(row)
count, size = writer.finalize()
splits = SplitDict({"test": SplitInfo("test", num_bytes=size, num_examples=count, dataset_name=name)})
DatasetInfo(
    features=features, dataset_name=name, config_name=name, builder_name="parquet", version="0.0.0", splits=splits
).write_to_directory(str(folder))
"""


def offline(folder, code, *arguments):
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    ended = subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_without_a_network_one_sentence_names_the_data_set_and_the_alternative(tmp_path):
    settings = {
        "humaneval": "openai/openai_humaneval",
        "mbppplus?limit=3": "evalplus/mbppplus",
        "livecodebench?paper=train": "livecodebench/code_gen",
    }
    sentences = offline(tmp_path, LOAD, *settings).splitlines()
    for (setting, name), sentence in zip(settings.items(), sentences, strict=True):
        assert sentence.startswith(f"refused: The hub's {name}")
        assert f"{setting.split('?')[0]}:FILE" in sentence


def test_a_table_in_the_local_cache_is_read(tmp_path):
    record = {
        "task_id": "HumanEval/0",
        "prompt": "def kept(x):\n",
        "canonical_solution": "    return x\n",
        "entry_point": "kept",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    }
    offline(tmp_path, CACHE, str(tmp_path / "datasets"), json.dumps([record]))
    assert offline(tmp_path, LOAD, "humaneval") == "['kept']\n"


def test_the_files_of_a_release_in_the_local_cache_are_read(tmp_path):
    repository = tmp_path / "hub" / "datasets--livecodebench--code_generation_lite"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    tests = json.dumps([{"input": "1", "output": "1", "testtype": "functional"}])
    for name in ("test.jsonl", "test2.jsonl"):
        record = {
            "question_id": name, "question_content": name, "platform": "leetcode", "difficulty": "easy",
            "contest_date": "2024-01-01T00:00:00", "starter_code": "", "metadata": '{"func_name": "go"}',
            "public_test_cases": tests, "private_test_cases": tests,
        }  # fmt: skip
        (snapshot / name).write_text(json.dumps(record) + "\n")
    loaded, refused = offline(tmp_path, LOAD, "livecodebench?release=v2", "livecodebench?release=v3").splitlines()
    assert loaded == "['Solution.go', 'Solution.go']"
    assert "(test3.jsonl) cannot be had" in refused
