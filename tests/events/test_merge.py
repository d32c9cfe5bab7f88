"""Another log can be merged stream by stream; what would contradict is a conflict, named and not merged."""

from pathlib import Path

import pytest

from events.facts.errors import LogCorrupt
from events.facts.types import GoalpostAdded, RunResumed
from events.maintenance import StreamConflict, merge
from events.stores import open_log
from events.stores.raw import Store
from tests.support.damaged_logs import execute_without_triggers
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed


@pytest.fixture
def mine(tmp_path: Path) -> Store:
    return open_log(tmp_path / "mine.sqlite", create=True)


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return open_log(tmp_path / "other.sqlite", create=True)


def tell(log: Store, stream: str, *messages: str) -> None:
    for message in messages:
        log.append(stream, [episode_failed(message)], key=message, observed={"said": message})


def messages(log: Store, stream: str) -> list[str]:
    return [event.fact.message for event in log.read(stream)]


def test_new_streams_are_added_and_longer_ones_go_on_with_their_hashes(mine: Store, other: Store) -> None:
    tell(mine, "mine", "m")
    for log in (mine, other):
        tell(log, "both", "1", "2")
    tell(other, "both", "3", "4")
    tell(other, "new", "n")
    blob = other.put(b"blob")
    other.append("new", [GoalpostAdded(question="q", blob=blob, source="s")])
    report = merge(other, mine, dry_run=False)
    assert (report.new, report.longer, report.same, report.conflicts) == (["new"], ["both"], 0, [])
    assert (report.events, report.merged) == (4, True)
    assert messages(mine, "both") == ["1", "2", "3", "4"]
    for stream in ("both", "new"):
        here, there = list(mine.read(stream)), list(other.read(stream))
        assert [event.hash for event in here] == [event.hash for event in there]
        assert [event.observed for event in here] == [event.observed for event in there]
        assert [event.time for event in here[2:]] == [event.time for event in there[2:]]
    assert mine.get(blob) == b"blob"
    assert [event.version for event in mine.recorded("both", "4") or []] == [4]
    assert mine.verify() is None
    assert [event.position for event in mine.read()] == list(range(1, 8))


def test_a_dry_run_says_the_same_and_merges_nothing(mine: Store, other: Store) -> None:
    tell(other, "new", "n")
    before = mine.head()
    planned = merge(other, mine)
    assert (mine.head(), planned.merged) == (before, False)
    done = merge(other, mine, dry_run=False)
    assert (planned.new, planned.events) == (done.new, done.events) == (["new"], 1)


def test_merging_twice_merges_once(mine: Store, other: Store) -> None:
    tell(other, "new", "n")
    merge(other, mine, dry_run=False)
    before = mine.head()
    again = merge(other, mine, dry_run=False)
    assert (again.same, again.events, mine.head()) == (1, 0, before)


def test_a_stream_that_is_longer_here_has_nothing_new(mine: Store, other: Store) -> None:
    tell(mine, "both", "1", "2")
    tell(other, "both", "1")
    assert merge(other, mine, dry_run=False).same == 1
    assert messages(mine, "both") == ["1", "2"]


@pytest.mark.parametrize("split", [1, 2, 3, 7, 8])
def test_a_stream_that_went_two_ways_is_a_conflict_at_the_first_difference(mine: Store, other: Store, split: int) -> None:
    for log, name in ((mine, "mine"), (other, "other")):
        tell(log, "both", *(f"{name if version >= split else ''}{version}" for version in range(1, 9)))
    tell(other, "new", "n")
    before = mine.head()
    report = merge(other, mine, dry_run=False)
    assert report.conflicts == [StreamConflict("both", split, "the logs differ from here on")]
    assert (report.merged, mine.head()) == (False, before)


def test_streams_without_a_conflict_merge_in_part_if_asked(mine: Store, other: Store) -> None:
    tell(mine, "both", "mine")
    tell(other, "both", "other")
    tell(other, "new", "n")
    report = merge(other, mine, dry_run=False, partly=True)
    assert (len(report.conflicts), report.events, report.merged) == (1, 1, True)
    assert (messages(mine, "both"), messages(mine, "new")) == (["mine"], ["n"])
    assert mine.recorded("both", "other") is None
    assert mine.verify() is None


def test_facts_that_name_positions_do_not_move(mine: Store, other: Store) -> None:
    tell(mine, "mine", "m")
    tell(other, "free", "f")
    other.append("run", [RunResumed(position=1)])
    report = merge(other, mine)
    assert report.conflicts == [StreamConflict("run", 1, "it names positions (run_resumed), and these are others in this log")]
    assert report.new == ["free"]


def test_facts_that_name_positions_do_not_move_when_only_the_order_differs(mine: Store, other: Store) -> None:
    for log, order in ((mine, "ab"), (other, "ba")):
        for stream in order:
            tell(log, stream, "1")
    other.append("run", [RunResumed(position=1)])
    assert [conflict.stream for conflict in merge(other, mine).conflicts] == ["run"]


def test_a_run_that_went_on_elsewhere_comes_back_whole(mine: Store, other: Store) -> None:
    for log in (mine, other):
        example_run(log).run().goalpost(2).play().update()
    assert mine.head() == other.head()
    other.append("run", [RunResumed(position=other.head().position)])
    tell(other, "new", "n")
    report = merge(other, mine, dry_run=False)
    assert (report.conflicts, report.events) == ([], 2)
    assert mine.head() == other.head()
    assert mine.verify() is None


def test_two_runs_do_not_mix(mine: Store, other: Store) -> None:
    example_run(mine).run(name="one", seed=1).goalpost().play()
    example_run(other).run(name="two", seed=2).goalpost().play()
    before = mine.head()
    report = merge(other, mine, dry_run=False)
    assert "run" in {conflict.stream for conflict in report.conflicts}
    assert mine.head() == before


def test_a_broken_log_is_not_merged(mine: Store, other: Store, tmp_path: Path) -> None:
    tell(other, "new", "n")
    other.close()
    execute_without_triggers(tmp_path / "other.sqlite", "UPDATE events SET data = replace(data, 'n', 'm')")
    with pytest.raises(LogCorrupt, match=r"The other log is broken at position 1: .*; repair it first"):
        merge(open_log(tmp_path / "other.sqlite"), mine, dry_run=False)
    assert mine.head().position == 0


def test_a_log_merges_into_postgresql(postgres: str, other: Store) -> None:
    target = open_log(f"{postgres}?run=merge", create=True)
    tell(target, "both", "1")
    tell(other, "both", "1", "2")
    assert merge(other, target, dry_run=False).events == 1
    assert messages(target, "both") == ["1", "2"]
    assert [event.version for event in target.recorded("both", "2") or []] == [2]
    assert target.verify() is None
