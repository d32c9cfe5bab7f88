"""`python -m events` lists, shows, follows, counts and moves logs, and pipes well."""

import itertools
import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from events.__main__ import app
from events.facts.errors import BadInput, GaspError
from events.facts.log import Event, Log
from events.facts.types import AttemptsMade, EpisodeFailed, QuestionProposed
from events.maintenance import migrate
from events.reports.event_line import event_line
from events.stores import open_log
from events.stores.memory import MemoryLog
from events.stores.paging import PAGE_SIZE
from tests.support.damaged_logs import execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.paths import ROOT
from tests.support.processes import run_command, start_command

GOLDEN = ROOT / "tests" / "golden" / "log-schema-1.sqlite"
HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red][/]\x9b31m\u202eevil\r\n[bold"
RUNS = itertools.count()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return played(tmp_path / "runs" / "first")


@pytest.fixture
def url(postgres: str, run: Path) -> str:
    """The same run in a database."""
    url = f"{postgres}?run=commands{next(RUNS)}"
    with closing(open_log(run / "log.sqlite")) as source, closing(open_log(url, create=True)) as target:
        migrate(source, target)
    return url


def played(folder: Path) -> Path:
    with closing(open_log(folder / "log.sqlite", create=True)) as log:
        example_run(log).run(recipe="gasp").goalpost(2).play().update().end()
    return folder


def events(*words: object, code: int = 0) -> Result:
    ended = CliRunner().invoke(app, [str(word) for word in words])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def objects(*words: object, code: int = 0) -> list[dict]:
    return [json.loads(line) for line in events(*words, "--json", code=code).stdout.splitlines()]


def recorded(run: Path) -> list:
    with closing(open_log(run / "log.sqlite")) as log:
        return list(log.read())


def test_show_gives_a_page_and_says_where_the_next_begins(run: Path) -> None:
    all_of_it = recorded(run)
    ended = events("show", run, "--limit", 5)
    assert [int(line.split()[0]) for line in ended.stdout.splitlines()] == [1, 2, 3, 4, 5]
    assert ended.stderr == "there are more: --after 5\n"
    rest = events("show", run, "--after", 5, "--limit", 0)
    assert len(rest.stdout.splitlines()) == len(all_of_it) - 5
    assert rest.stderr == ""
    last = events("show", run, "--after", len(all_of_it) - 3, "--limit", 3)
    assert (len(last.stdout.splitlines()), last.stderr) == (3, "")


def test_show_chooses_a_stream_and_kinds(run: Path) -> None:
    words = [line.split() for line in events("show", run, "--stream", "run").stdout.splitlines()]
    assert [line[5] for line in words] == ["run_started", "iteration_started", "iteration_finished", "run_finished"]
    shown = objects("show", run, "--kind", "gap_measured", "--kind", "run_started")
    assert [event["fact"]["kind"] for event in shown] == ["run_started", "gap_measured", "gap_measured"]
    with pytest.raises(BadInput, match="no kind 'gap'; the kinds are run_started, "):
        events("show", run, "--kind", "gap")
    assert events("show", run, "--stream", "nowhere").stderr == "no such events\n"


def test_json_lines_hold_the_whole_event(run: Path) -> None:
    shown, kept = objects("show", run, "--limit", 0), recorded(run)
    assert shown == [event.plain_data() for event in kept]
    assert {*shown[0]} == {*Event._fields}
    assert shown[0]["time"].endswith("Z")
    assert [datetime.fromisoformat(line["time"]) for line in shown] == [event.time for event in kept]


def test_a_line_says_what_happened_in_a_few_words(run: Path) -> None:
    made = next(line for line in events("show", run).stdout.splitlines() if " attempts_made " in line)
    assert "episode/00001/000 2" in made
    assert "purpose=gap" in made
    assert "generation=10 by " in made
    judged = next(line for line in events("show", run).stdout.splitlines() if " pass_rate_measured " in line)
    assert judged.endswith("successes=5 attempts=10")


def test_hostile_text_changes_no_terminal() -> None:
    log = MemoryLog()
    log.append(f"episode/{HOSTILE}", [EpisodeFailed(error="Gone", message=HOSTILE)])
    line = event_line(next(log.read()))
    assert not any(character in line for character in "\x1b\x07\x9b\u202e\r\n")
    assert "\\[red]x\\[/red]" in line


def test_json_of_hostile_text_is_ascii(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        log.append("run", [EpisodeFailed(error="Gone", message=HOSTILE)])
    for command in ("show", "tail"):
        out = events(command, tmp_path, "--json").stdout
        assert out.rstrip("\n").isascii()
        assert out.rstrip("\n").isprintable()
        assert json.loads(out)["fact"]["message"] == HOSTILE
        events(command, tmp_path)


@pytest.mark.parametrize("choice", [[], ["--stream", "episode/00001/001"], ["--kind", "reward_given"]])
def test_tail_gives_the_end_of_what_show_gives(run: Path, choice: list[str]) -> None:
    shown = events("show", run, "--limit", 0, *choice).stdout.splitlines()
    assert events("tail", run, *choice, "-n", 4).stdout.splitlines() == shown[-4:]
    assert events("tail", run, *choice, "-n", 10_000).stdout.splitlines() == shown
    assert events("tail", run, *choice, "-n", 0).stdout == ""
    assert events("tail", run, *choice).stdout.splitlines() == shown[-10:]


@pytest.mark.parametrize("command", ["show", "tail", "stats", "verify"])
def test_what_is_no_log_is_an_error_of_ours(command: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no log at"):
        events(command, tmp_path)


def test_a_log_of_schema_1_is_shown_and_counted(tmp_path: Path) -> None:
    shutil.copy(GOLDEN, tmp_path / "log.sqlite")
    with closing(open_log(tmp_path / "log.sqlite")) as log:
        total = log.head().position
        migrate(log, open_log(tmp_path / "new" / "log.sqlite", create=True))
    assert len(objects("tail", tmp_path, "-n", total + 1)) == len(objects("show", tmp_path, "--limit", 0)) == total
    old, new = objects("stats", tmp_path)[0], objects("stats", tmp_path / "new")[0]
    del old["bytes"], new["bytes"]
    assert old == new
    assert (old["events"], sum(old["kinds"].values()), old["streams"]["episode"]) == (total, total, 3)


def test_tail_follows_until_ctrl_c(run: Path) -> None:
    following = start_command("events", "tail", run, "-n", 1, "--follow", "--json", fresh=False)
    assert following.stdout is not None
    before = json.loads(following.stdout.readline())
    with closing(open_log(run / "log.sqlite")) as log:
        added = log.append("late", [EpisodeFailed(error="Late", message="news")])[0]
    after = json.loads(following.stdout.readline())
    assert (before["fact"]["kind"], after) == ("run_finished", added.plain_data())
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=20)[1] == ""
    assert following.returncode == 130


def expected_figures(log: Log) -> dict:
    recorded = list(log.read())
    facts = [event.fact for event in recorded]
    written = [fact.generation for fact in facts if isinstance(fact, AttemptsMade | QuestionProposed)]
    kinds = [fact.kind for fact in facts]
    return {
        "events": len(recorded),
        "head": recorded[-1].head,
        "first": recorded[0].time.isoformat(),
        "last": recorded[-1].time.isoformat(),
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))},
        "streams": {"episode": 3, "goalposts": 1, "policy": 1, "run": 1},
        "rollouts": sum(generation.count for generation in written),
        "tokens": sum(generation.length for generation in written),
    }


def test_stats_count_what_is_there(run: Path) -> None:
    (counts,) = objects("stats", run)
    size, blobs = counts.pop("bytes"), counts.pop("blobs")
    with closing(open_log(run / "log.sqlite")) as log:
        assert counts == expected_figures(log)
    with closing(sqlite3.connect(run / "log.sqlite")) as db:
        assert list(blobs.values()) == list(
            db.execute("SELECT count(*), sum(size), sum(length(content)) FROM blobs").fetchone()
        )
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert size == (run / "log.sqlite").stat().st_size
    text = events("stats", run).stdout
    assert f"{counts['rollouts']} rollouts, {counts['tokens']} tokens" in text
    assert ["reward_given", str(counts["kinds"]["reward_given"])] in [line.split() for line in text.splitlines()]


def test_stats_count_more_streams_than_a_page_holds(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        assert events("stats", tmp_path).stdout.startswith("0 events")
        for number in range(PAGE_SIZE + 1):
            log.submit(f"episode/{number}", [EpisodeFailed(error="a", message="b")])
        log.append("run", [EpisodeFailed(error="a", message="b")])
    assert objects("stats", tmp_path)[0]["streams"] == {"episode": PAGE_SIZE + 1, "run": 1}


def test_list_shows_the_runs_of_a_folder(run: Path) -> None:
    with closing(open_log(run.parent / "second" / "log.sqlite", create=True)) as log:
        example_run(log).run().goalpost()
    (run.parent / "notes").mkdir()
    first, second = objects("list", run.parent)
    last = recorded(run)[-1]
    assert first == {
        "name": "first",
        "began": recorded(run)[0].time.isoformat(),
        "recipe": "gasp",
        "events": last.position,
        "finished": True,
        "head": last.head,
    }
    assert (second["name"], second["recipe"], second["events"], second["finished"]) == ("second", None, 2, False)
    lines = [line.split() for line in events("list", run.parent).stdout.splitlines()]
    assert [line[0] for line in lines] == ["name", "first", "second"]
    assert lines[1][3:] == ["gasp", str(last.position), "yes", last.head[:8]]


def test_a_run_that_cannot_be_read_does_not_hide_the_others(run: Path) -> None:
    (run.parent / "broken").mkdir()
    (run.parent / "broken" / "log.sqlite").write_bytes(b"x" * 5000)
    broken, first = objects("list", run.parent, code=1)
    assert "is not a GASP log" in broken["error"]
    assert first["name"] == "first"
    with pytest.raises(BadInput, match="There is no folder"):
        events("list", run.parent / "nowhere")


def test_a_database_is_a_log_like_any_other(url: str, run: Path) -> None:
    for command in (["show", "--limit", "7"], ["tail", "-n", "3", "--stream", "run"], ["tail", "--kind", "gap_measured"]):
        assert events(command[0], url, *command[1:]).stdout == events(command[0], run, *command[1:]).stdout
    (counts,) = objects("stats", url)
    assert counts.pop("bytes") > 0
    assert counts.pop("blobs")["number"] > 0
    with closing(open_log(url)) as log:
        assert counts == expected_figures(log)
    # The database also has runs of other tests, some of which cannot be read.
    entries = map(json.loads, CliRunner().invoke(app, ["list", url, "--json"]).stdout.splitlines())
    listed = {entry.pop("name"): entry for entry in entries}
    (there,) = objects("list", run)
    assert there.pop("name") == "first"
    assert listed[url.partition("run=")[2]] == there
    assert events("verify", url).stdout == events("verify", run).stdout


def test_logs_migrate_merge_and_are_backed_up_between_stores(url: str, run: Path, tmp_path: Path) -> None:
    head = recorded(run)[-1].head
    first = events("migrate", url, tmp_path / "back.sqlite", "--json")
    copied = json.loads(first.stdout)
    assert first.stderr == ""
    assert (copied["digest"], copied["copied"]) == (head, len(recorded(run)))
    assert objects("migrate", url, tmp_path / "back.sqlite")[0]["copied"] == 0
    assert objects("backup", url, tmp_path / "backup.sqlite")[0]["digest"] == head
    with closing(open_log(run / "log.sqlite")) as log:
        log.append("late", [EpisodeFailed(error="Late", message="news")])
    assert events("merge", run, url, "--dry-run").stdout.startswith("to merge: 1 events, 1 new streams, 0 longer")
    assert objects("merge", run, url)[0]["merged"] is True
    assert events("verify", url).stdout == events("verify", run).stdout


def test_what_looks_after_logs_answers_in_json_too(run: Path, tmp_path: Path) -> None:
    tip = {"position": len(recorded(run)), "digest": recorded(run)[-1].head}
    assert objects("verify", run) == [{"sound": True, "same": True, **tip, "broken": None, "lost": [], "remarks": []}]
    assert objects("verify", run, "--head", "0" * 64, code=1)[0]["same"] is False
    assert objects("backup", run, tmp_path / "copy.sqlite") == [{"target": str(tmp_path / "copy.sqlite"), **tip}]
    assert objects("repair", run, tmp_path / "new.sqlite")[0]["broken"] is None
    execute_without_triggers(run / "log.sqlite", "DELETE FROM events WHERE position = 2")
    assert objects("verify", run, code=1)[0]["broken"]["position"] == 2
    (report,) = objects("repair", run, tmp_path / "new.sqlite", code=1)
    assert (report["sound"]["position"], report["lost"], report["target"]) == (1, tip["position"] - 1, None)


def test_a_merge_with_conflicts_merges_nothing_and_fails(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    shutil.copytree(run, tmp_path / "copy")
    shutil.move(tmp_path / "copy" / "log.sqlite", other)
    for log, message in ((run / "log.sqlite", "here"), (other, "there")):
        with closing(open_log(log)) as opened:
            opened.append("late", [EpisodeFailed(error="Late", message=message)])
    before = recorded(run)
    ended = events("merge", other, run, code=1)
    assert "conflict in late from version 1 on" in ended.stdout
    assert "not merged" in ended.stdout
    assert recorded(run) == before


def test_repair_only_writes_when_told_to(run: Path, tmp_path: Path) -> None:
    rescue = tmp_path / "rescue.sqlite"
    assert "nothing to repair" in events("repair", run, rescue).stdout
    execute_without_triggers(run / "log.sqlite", "DELETE FROM events WHERE position = 4")
    total = len(recorded(run)) + 1
    ended = events("repair", run, rescue, code=1)
    assert "broken at position 4" in ended.stdout
    assert f"3 events are sound, up to head {recorded(run)[2].head}; {total - 3} are lost" in ended.stdout
    assert not rescue.exists()
    assert "rescued" in events("repair", run, rescue, "--no-dry-run").stdout
    assert events("verify", rescue).stdout.startswith("sound: 3 events")
    with pytest.raises(BadInput, match="exists"):
        events("repair", run, rescue)
    with pytest.raises(BadInput, match="A database cannot be repaired"):
        events("repair", "postgresql://user:secret@localhost/base", tmp_path / "new.sqlite")


@pytest.mark.parametrize("command", ["show", "tail", "stats", "verify", "list"])
def test_no_error_shows_a_password(command: str) -> None:
    with pytest.raises(GaspError) as caught:
        events(command, "postgresql://user:secret@127.0.0.1:1/base")
    assert "secret" not in str(caught.value)


def test_output_is_plain_in_a_pipe_and_a_cut_line_in_a_window(run: Path) -> None:
    command = [sys.executable, "-m", "events", "show", str(run), "--limit", "9"]
    piped = run_command("events", "show", run, "--limit", 9).stdout
    assert "\x1b" not in piped
    assert max(map(len, piped.splitlines())) > 80
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    subprocess.run(command, cwd=ROOT, stdout=theirs, stderr=subprocess.DEVNULL, check=True, env=environment)
    os.close(theirs)
    window = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "\x1b[" in window
    assert len(window.splitlines()) == 9


def test_progress_is_a_bar_on_a_terminal_and_nothing_elsewhere(run: Path) -> None:
    command = [sys.executable, "-m", "events", "verify", str(run)]
    ended = run_command("events", "verify", run)
    assert (ended.returncode, ended.stderr) == (0, "")
    ours, theirs = pty.openpty()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs, check=True, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    with closing(open_log(run / "log.sqlite")) as log:
        total = log.head().position
    assert f"verifying: {total} of {total}" in shown


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_reader_that_goes_away_ends_a_command_quietly(run: Path, option: str) -> None:
    with closing(open_log(run / "log.sqlite")) as log:
        # More than a pipe holds.
        log.append("long", [EpisodeFailed(error="a", message="b" * 200)] * 1000)
    command = f"{sys.executable} -m events show {run} --limit 0 {option} | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stderr == ""
    first, code = ended.stdout.splitlines()
    assert "run_started" in first
    assert code in {"1", "141"}
