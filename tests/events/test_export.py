"""Exports of a run: whole, equal in every format, loadable where they go, and safe whatever the run holds."""

from __future__ import annotations

import itertools
import json
import random
import re
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from events.__main__ import app
from events.export import FORMATS, frames, load_exporter
from events.export.arrow import batches, schema
from events.export.table_rows import TABLES
from events.export.tables import AttemptRow
from events.facts.errors import BadInput, LogCorrupt, LogError
from events.facts.log import Log, find_run_started
from events.facts.rollouts import pack_rollouts
from events.facts.types import AttemptsMade, PolicyUpdated
from events.maintenance import migrate
from events.stores import open_log
from events.stores.memory import MemoryLog
from tests.support.example_runs import ExampleRun, example_run, question
from tests.support.paths import ROOT
from tests.support.tiny_model import tiny_weights
from tests.support.training_samples import sample_digest
from trainer.data import replay
from trainer.data.replay import Cursor
from trainer.learn.loss import keep_libraries_offline

FILES = ("parquet", "jsonl", "huggingface")
HOSTILE = '\x00\x1b]0;owned\x07\u202e"}\n---\nlicense: mit\n| x | ``` <script>\u2028{{x}} {0}\U0001f600'
RUNS = itertools.count()


def record_example(log: Log) -> ExampleRun:
    tale = example_run(log).run(recipe="gasp", seed=3).goalpost(2).evaluate("goalposts").start(3)
    tale.episode(rejected=["degenerate"]).fail().practice().finish().update()
    tale.start().episode(task="induction", lift=None).finish().update().start().give()
    return tale.examine_trial(tale.begin_trial(1), tale.policies["student"], before=1, after=3).end()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with closing(open_log(tmp_path / "first" / "log.sqlite", create=True)) as log:
        record_example(log)
    return tmp_path / "first"


def export(*words: object, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, ["export", *map(str, words)])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def written(log: Log, out: Path, to: str, name: str = "run") -> Path:
    load_exporter(to)(log, out, name=name)
    return out


def dataset(folder: Path, table: str | None = None) -> Any:
    keep_libraries_offline()
    from datasets import load_dataset

    return load_dataset(str(folder), table, split="train", cache_dir=str(folder.parent / "cache"))


def hostile(log: Log) -> ExampleRun:
    """A run whose every text is hostile, with logprobs that are no numbers."""
    tale = example_run(log).run(recipe=HOSTILE).start().open(question(1), "practice")
    changed = {
        "prompt": log.put((HOSTILE + "\ud800").encode("utf-8", "surrogatepass")),
        "texts": log.put(json.dumps([HOSTILE, "\udfff" + HOSTILE]).encode()),
        "tokens": log.put(pack_rollouts([1], [[2], [3]], [[float("nan")], [-float("inf")]])),
    }
    generation = tale.generation("x", 2).model_copy(update=changed)
    log.append(
        tale.stream, [AttemptsMade(purpose="practice", question=question(1).id, task="induction", generation=generation)]
    )
    tale.reject("easy", 1, question(1), "broken", HOSTILE)
    tale.finish().update()
    (fact,) = (event.fact for event in log.read("policy/shared"))
    assert isinstance(fact, PolicyUpdated)
    step = fact.steps[0].model_copy(update={"metrics": {HOSTILE: 1.0}})
    log.append("policy/shared", [fact.model_copy(update={"steps": (step,), "policy": HOSTILE})])
    return tale


@pytest.mark.parametrize("table", TABLES)
def test_parquet_and_json_lines_hold_the_rows_of_the_frames(run: Path, tmp_path: Path, table: str) -> None:
    export(run, "--to", "parquet", "--out", tmp_path / "parquet")
    export(run, "--to", "jsonl", "--out", tmp_path / "jsonl")
    frame = getattr(frames, table)(run)
    assert not frame.is_empty()
    assert_frame_equal(pl.read_parquet(tmp_path / "parquet" / f"{table}.parquet"), frame, check_exact=True)
    read = pl.read_ndjson(tmp_path / "jsonl" / f"{table}.jsonl", schema=frame.schema)
    assert_frame_equal(read, frame, check_exact=True)


def test_a_dataset_loads_with_the_columns_that_its_card_declares(run: Path, tmp_path: Path) -> None:
    keep_libraries_offline()
    from datasets import Features

    export(run, "--to", "huggingface", "--out", tmp_path / "set")
    head = yaml.safe_load((tmp_path / "set" / "README.md").read_text().split("---\n")[1])
    for table, info in zip(TABLES, head["dataset_info"], strict=True):
        loaded, frame = dataset(tmp_path / "set", table), getattr(frames, table)(run)
        assert loaded.features == Features._from_yaml_list(info["features"])
        assert loaded.column_names == frame.columns
        plain = [name for name in frame.columns if name not in {"prompt", "completion"}]
        assert_frame_equal(loaded.select_columns(plain).to_polars(), frame.select(plain), check_exact=True)
    assert len(dataset(tmp_path / "set")) == frames.attempts(run).height


def test_a_dataset_speaks_as_trl_expects(run: Path, tmp_path: Path) -> None:
    export(run, "--to", "huggingface", "--out", tmp_path / "set")
    frame = frames.attempts(run)
    for spoken, prompt, completion in zip(dataset(tmp_path / "set"), frame["prompt"], frame["completion"], strict=True):
        assert spoken["prompt"] == [{"role": "user", "content": prompt}]
        assert spoken["completion"] == [{"role": "assistant", "content": completion}]


def test_a_dataset_holds_bit_for_bit_what_the_trainer_learns_from(run: Path, tmp_path: Path) -> None:
    export(run, "--to", "huggingface", "--out", tmp_path / "set")
    with closing(open_log(run / "log.sqlite")) as log:
        start, end = find_run_started(log), replay.next_finished_iteration(log, 0)
        assert start is not None
        assert end is not None
        window = replay.iteration_rollouts(log, Cursor("shared", start.policies["student"], until=0, step=0, version=0), end)
    rows = dataset(tmp_path / "set").remove_columns(["prompt", "completion"]).to_polars()
    assert sample_digest(rows, 0, end.position) == window.digest


@pytest.mark.slow
def test_trl_learns_from_a_dataset(run: Path, tmp_path: Path) -> None:
    export(run, "--to", "huggingface", "--out", tmp_path / "set")
    solved = dataset(tmp_path / "set").filter(lambda row: row["outcome"] == "passed", load_from_cache_file=False)
    weights = tmp_path / tiny_weights(tmp_path)
    import torch
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import is_conversational

    torch.set_num_threads(1)
    assert is_conversational(solved[0])
    tokenizer = AutoTokenizer.from_pretrained(weights)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"
    config = SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(str(weights), config, train_dataset=solved, processing_class=tokenizer)
    assert trainer.train().training_loss > 0


def test_the_card_says_how_the_data_was_made(run: Path, tmp_path: Path) -> None:
    export(run, "--to", "huggingface", "--out", tmp_path / "set")
    card = (tmp_path / "set" / "README.md").read_text()
    with closing(open_log(run / "log.sqlite")) as log:
        head = log.head()
        digests = [event.fact.digest for event in log.read(kinds=("policy_updated",)) if isinstance(event.fact, PolicyUpdated)]
    for part in ("run `first`", "recipe `gasp`, seed `3`", f"`shared` after iteration 2: weights `{digests[-1]}`", head.digest):
        assert part in card
    for row in (table.row for table in TABLES.values()):
        assert row.__doc__ in card
        assert all(f"| {field.description} |" in card for field in row.model_fields.values())


@pytest.mark.parametrize("name", [HOSTILE, "---\nx: y", "\udc80", "` | <b>"])
def test_no_text_of_a_run_takes_effect_in_a_card(log: MemoryLog, tmp_path: Path, name: str) -> None:
    hostile(log)
    card = (written(log, tmp_path / "set", "huggingface", name) / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert set(head) == {"pretty_name", "tags", "configs", "dataset_info"}
    assert not {character for character in card if not character.isprintable()} - {"\n"}
    assert "\n# Rollouts of the run `" in card
    assert not [line for line in card.splitlines() if line.startswith(("license", "<script", "| x"))]
    quoted = [part for line in card.splitlines() if "<" in line for part in line.split("`")[::2]]
    assert not [part for part in quoted if "<script" in part or "<b>" in part]
    assert all(len(dataset(tmp_path / "set", config["config_name"])) for config in head["configs"])


def test_hostile_text_survives_in_every_format(log: MemoryLog, tmp_path: Path) -> None:
    hostile(log)
    texts = [HOSTILE, f"\N{REPLACEMENT CHARACTER}{HOSTILE}"]
    assert (
        pl.read_parquet(written(log, tmp_path / "parquet", "parquet") / "attempts.parquet")["completion"].to_list()[:2] == texts
    )
    lines = (written(log, tmp_path / "jsonl", "jsonl") / "attempts.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["completion"] for line in lines[:2]] == texts
    spoken = dataset(written(log, tmp_path / "set", "huggingface"))
    assert [row["completion"][0]["content"] for row in spoken][:2] == texts


def test_json_lines_are_one_row_a_line_in_ascii_and_strict_json(log: MemoryLog, tmp_path: Path) -> None:
    hostile(log)
    folder = written(log, tmp_path / "jsonl", "jsonl")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for table in TABLES:
        lines = (folder / f"{table}.jsonl").read_text("ascii").splitlines()
        rows = [json.loads(line, parse_constant=refuse) for line in lines]
        assert len(rows) == getattr(frames, table)(log).height
    attempts = [json.loads(line) for line in (folder / "attempts.jsonl").open()]
    assert [row["logprobs"] for row in attempts[:2]] == [[None], [None]]


def test_a_command_writes_beside_itself_and_says_what(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = export(run, "--to", "jsonl")
    rows = {table: getattr(frames, table)(run).height for table in TABLES}
    expected = f"{', '.join(f'{count} {table}' for table, count in rows.items())} into first-jsonl"
    assert (ended.stdout, ended.stderr) == (f"exported {expected}\n", "")
    assert {path.name for path in Path("first-jsonl").iterdir()} == {f"{table}.jsonl" for table in TABLES}
    answer = json.loads(export(run / "log.sqlite", "--to", "parquet", "--out", "there", "--json").stdout)
    assert answer == {"format": "parquet", "out": "there", "written": expected.replace("first-jsonl", "there")}


def test_the_examples_of_the_page_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    console, python = re.findall(r"^```(?:console|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (run.parent / "runs").mkdir()
    run.rename(run.parent / "runs" / "run-001")
    monkeypatch.chdir(run.parent)
    for line in console.splitlines():
        export(*shlex.split(line, comments=True)[3:])
    assert len(dataset(run.parent / "run-001-huggingface")) == frames.attempts("runs/run-001").height
    names: dict[str, Any] = {}
    exec(compile(python, "docs/export.md", "exec"), names)
    assert names["rates"].filter(pl.col("purpose") == "practice")["outcome"].to_list() == [0.5]
    assert set(FORMATS) <= set(re.findall(r"\w+", console))


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_that_exists_is_overwritten(run: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(BadInput, match="exists and is not empty; name a new folder with --out"):
            export(run, "--to", to, "--out", place)
    assert (tmp_path / "full" / "mine").read_text() == "mine"


def test_an_empty_folder_is_a_good_place(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export(run, "--to", "parquet", "--out", tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == len(TABLES)


@pytest.mark.parametrize("to", FILES)
def test_an_export_that_fails_leaves_nothing(log: MemoryLog, tmp_path: Path, to: str) -> None:
    tale = record_example(log).start().open(question(1), "practice")
    generation = tale.generation("x", 2).model_copy(update={"tokens": "f" * 64})
    log.append(tale.stream, [AttemptsMade(purpose="practice", question="q", task="induction", generation=generation)])
    with pytest.raises(LogCorrupt, match=f"Blob {'f' * 64} is missing"):
        written(log, tmp_path / "out" / "deep", to)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("to", FILES)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(log: MemoryLog, small_disk: Path, to: str) -> None:
    tale = example_run(log).run().start().open(question(1), "practice")
    noise = log.put(json.dumps([random.Random(0).randbytes(600_000).hex()]).encode())
    generation = tale.generation("x", 1).model_copy(update={"texts": noise})
    log.append(tale.stream, [AttemptsMade(purpose="practice", question="q", task="induction", generation=generation)])
    with pytest.raises(LogError, match=r"cannot be written .*; name another folder"):
        written(log, small_disk / "out", to)
    assert not list(small_disk.iterdir())


def test_formats_and_packages_that_are_missing_are_named(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no format 'csv'; the formats are parquet, jsonl, huggingface"):
        export(run, "--to", "csv")
    with pytest.raises(BadInput, match="There is no log"):
        export(tmp_path / "nowhere", "--to", "parquet")
    for module in ("parquet", "arrow"):
        monkeypatch.delitem(sys.modules, f"events.export.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"needs pyarrow, which is not installed; run `pip install 'gasp\[data\]'`"):
        export(run, "--to", "parquet", "--out", tmp_path / "out")
    export(run, "--to", "jsonl", "--out", tmp_path / "out")


@pytest.mark.parametrize("to", FILES)
def test_equal_logs_give_equal_bytes_from_any_store(run: Path, tmp_path: Path, postgres: str, to: str) -> None:
    url = f"{postgres}?run=export{next(RUNS)}"
    with closing(open_log(run / "log.sqlite")) as source, closing(open_log(url, create=True)) as target:
        migrate(source, target)
    again = MemoryLog()
    record_example(again)
    places = [tmp_path / "file", tmp_path / "database", tmp_path / "memory"]
    for log, place in zip((open_log(run / "log.sqlite"), open_log(url), again), places, strict=True):
        with closing(log):
            written(log, place, to)
    first, *others = [{path.relative_to(place): path.read_bytes() for path in place.rglob("*.*")} for place in places]
    assert others == [first, first]


def test_batches_are_bounded_by_rows_and_by_bytes(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    record_example(log)
    until = log.head().position
    columns, rows = schema("attempts", log, until), [row.columns() for row in TABLES["attempts"].rows(log, "run", until)]
    monkeypatch.setattr("events.export.arrow.BATCH_ROWS", 50)
    sizes = [batch.num_rows for batch in batches(rows, columns)]
    assert (set(sizes[:-1]), sum(sizes)) == ({50}, len(rows))
    monkeypatch.setattr("events.export.arrow.BATCH_BYTES", 10_000)
    sizes = [batch.num_rows for batch in batches(rows, columns)]
    assert max(sizes) < 50
    assert sum(sizes) == len(rows)


def repeated(path: Path, count: int) -> Path:
    """A log of about so many events: one iteration, again and again."""
    with closing(open_log(path, create=True)) as log:
        tale = example_run(log).run().goalpost().start(2)
        tale.episode(attempts=2, lemma=1, lift=1).practice(passing=1, attempts=2).finish().update()
        streams: dict[str, list[Any]] = {}
        for event in log.read(after=2):
            streams.setdefault(event.stream, []).append(event.fact)
        for number in range(2, count // (log.head().position - 2) + 1):
            done = [log.submit(stream.replace("00001", f"{number:05}"), facts) for stream, facts in streams.items()]
        done[-1].result()
        assert log.head().position > 0.99 * count
    return path


@pytest.mark.endurance
def test_memory_stays_flat_however_long_the_log_is(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from events.export import load_exporter; from events.stores import open_log\n"
        "load_exporter('huggingface')(open_log(Path(sys.argv[1])), Path(sys.argv[2]), name='x')\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    short, long = (
        int(subprocess.check_output([sys.executable, "-c", script, str(path), str(tmp_path / path.stem)], cwd=ROOT))
        for path in (repeated(tmp_path / f"{count}.sqlite", count) for count in (20_000, 50_000))
    )
    assert long < short + 14_000, f"kB at the peak: {short}, {long}"


def test_the_columns_that_trl_takes_for_its_own_are_not_used() -> None:
    """TRL takes a dataset with one of these for images, or for one that is tokenised already."""
    assert not set(AttemptRow.model_fields) & {"image", "images", "messages", "text", "input_ids", "labels", "tools"}
