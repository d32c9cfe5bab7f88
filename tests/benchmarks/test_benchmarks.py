"""The benchmark of the log runs, and what it writes is a section of the document and nothing else."""

import re
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import repeated_log, sandbox, section
from benchmarks.log import main
from benchmarks.rounds import Claim, Rates, interleaved
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade
from events.stores import open_log

BEGIN, END = "<!-- log: begin (made by `make bench-log`) -->", "<!-- log: end -->"
NUMBER = r"[\d ]+(\.\d+)? \([\d ]+(\.\d+)?–[\d ]+(\.\d+)?\)"


def test_the_long_log_is_sound_and_its_rollouts_read_back(tmp_path: Path) -> None:
    with closing(open_log(tmp_path / "log.sqlite", create=True)) as log:
        repeated_log.RepeatedLog(log).grow(12_000)
        assert (log.head().position, log.verify()) == (12_000, None)
        kinds = log.stats().tally.kinds
        assert (kinds["run_started"], kinds["goalpost_added"]) == (1, repeated_log.GOALPOSTS)
        blobs = set()
        for event in log.read(kinds=("attempts_made",)):
            assert isinstance(event.fact, AttemptsMade)
            blobs.add(event.fact.generation.tokens)
        assert len(blobs) == kinds["attempts_made"], "rollouts are told twice"
        for blob in list(blobs)[:100]:
            assert len(unpack_rollouts(log.get(blob)).ids) in (4, 8, 10)


@pytest.mark.slow
def test_the_benchmark_writes_its_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Benchmarks\n\nbefore\n\n{BEGIN}\nforgotten\n{END}\n\nafter\n")
    main(events=1000, rounds=1, appended=64, folder=tmp_path / "files", run=None, document=document)
    before, written, after = re.split(f"{re.escape(BEGIN)}\n|{re.escape(END)}\n", document.read_text())
    assert (before, after) == ("# Benchmarks\n\nbefore\n\n", "\nafter\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines() if line.startswith("|")]
    claims = [row for row in rows if re.fullmatch(NUMBER, row[1])]
    assert len(claims) == len(capsys.readouterr().out.splitlines()) == 11
    for _, _, _, theirs, ratio, aim in claims:
        assert re.fullmatch(NUMBER, theirs)
        assert re.fullmatch(rf"\*\*{NUMBER}\*\*", ratio)
        assert re.fullmatch(r"–|[≥≤] [\d.]+: (met|missed)", aim)
    assert [row[0] for row in rows if row[0].startswith("`")] == ["`show`", "`tail`", "`stats`"]
    assert "forgotten" not in written
    assert str(tmp_path) not in written
    assert [path.name for path in (tmp_path / "files").iterdir() if path.is_dir()] == []


def test_a_section_is_added_where_there_is_none(tmp_path: Path) -> None:
    document = tmp_path / "docs" / "benchmarks.md"
    section.write(document, "log", "The event log", ["one"])
    section.write(document, "log", "The event log", ["two"])
    assert document.read_text().endswith(f"## The event log\n\n{BEGIN}\ntwo\n{END}\n")


def test_everybody_takes_turns_and_ratios_are_taken_within_a_round() -> None:
    order = []
    rounds = interleaved({name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert rounds == {"a": Rates((1.0, 4.0, 5.0)), "b": Rates((2.0, 3.0, 6.0))}
    assert rounds["b"].over(rounds["a"]).rounds == (2.0, 0.75, 1.2)


@pytest.mark.parametrize(
    ("bounds", "aim"),
    [
        ({}, "–"),
        ({"least": 0.4}, "≥ 0.4: met"),
        ({"least": 0.7}, "≥ 0.7: missed"),
        ({"most": 2}, "≤ 2: met"),
        ({"most": 1.5}, "≤ 1.5: missed"),
    ],
)
def test_an_aim_that_was_missed_says_so(bounds: dict[str, float], aim: str) -> None:
    assert Claim("append", Rates((1.0, 2.0, 1.0)), "raw", Rates((2.0, 4.0, 2.0)), **bounds).aim == aim


@pytest.mark.docker
@pytest.mark.slow
def test_the_sandbox_is_compared_with_every_other_way_to_run_a_program(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    sandbox.main(rounds=1, programs=8, document=document)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.read_text().splitlines()]
    claims = [row for row in rows if len(row) == 6 and re.fullmatch(NUMBER, row[1])]
    assert {row[0].split(",")[0] for row in claims} == {program.name for program in sandbox.PROGRAMS}
    for rival in ("bare fork, one loop", "bare fork, two loops", "pebble, a pool a call", "`docker run`", "`docker exec`"):
        assert len([row for row in claims if row[2] == rival]) == len(sandbox.PROGRAMS)
    latencies = [row for row in rows if len(row) == 4 and row[1] in ("ours", "bare fork")]
    assert len(latencies) == 2 * len(sandbox.PROGRAMS)
    assert str(tmp_path) not in document.read_text()


def test_a_contender_with_other_results_is_no_contender() -> None:
    program = sandbox.PROGRAMS[0]
    sandbox.check(program, ["1"])
    with pytest.raises(AssertionError, match="was expected"):
        sandbox.check(program, ["2"])
