"""What is sound of a damaged log can be rescued into a new file; the damaged one is only read."""

import os
from pathlib import Path

import pytest

from events.facts.errors import BadInput, LogCorrupt
from events.facts.log import Corruption, Event
from events.maintenance import RepairReport, repair
from events.stores import open_log
from tests.support.damaged_logs import PAGE, corrupt_pages, execute_without_triggers, replace_bytes
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "rescued.sqlite"


@pytest.fixture
def recorded_events(path: Path) -> list[Event]:
    log = open_log(path, create=True)
    example_run(log).run().goalpost(2).play().update()
    log.append("keyed", [episode_failed()], key="k")
    for number in range(300):
        log.append("long", [episode_failed(f"number {number:04}")])
    events = list(log.read())
    log.close()
    return events


def assert_rescued(report: RepairReport, recorded_events: list[Event], path: Path, target: Path) -> None:
    """The sound beginning is in the target, all of it, and nothing else."""
    rescued = open_log(target)
    assert list(rescued.read()) == recorded_events[: report.sound.position]
    assert (
        rescued.head()
        == report.sound
        == (recorded_events[report.sound.position - 1].position, recorded_events[report.sound.position - 1].head)
    )
    assert rescued.verify() is None
    assert report.target == target
    rescued.append("run", [episode_failed()], expected=rescued.version("run"))


@pytest.mark.parametrize(
    ("statement", "sound", "lost"),
    [
        ("DELETE FROM events WHERE position > 200", 200, 0),
        ("UPDATE events SET data = replace(data, 'number', 'numbre') WHERE position = 201", 200, None),
        ("DELETE FROM events WHERE position = 201", 200, None),
        ("UPDATE tip SET head = 'x'", 0, 0),
        ("UPDATE blobs SET content = x'00' WHERE rowid = 1", 1, None),
    ],
)
def test_a_broken_log_is_rescued_up_to_its_first_wrong_position(
    recorded_events: list[Event], path: Path, target: Path, statement: str, sound: int, lost: int | None
) -> None:
    execute_without_triggers(path, statement)
    before = path.read_bytes()
    report = repair(path, target, dry_run=False)
    assert report.promised == len(recorded_events)
    assert report.sound.position == (sound or len(recorded_events))
    assert report.lost == len(recorded_events) - report.sound.position
    assert report.keys
    assert_rescued(report, recorded_events, path, target)
    assert path.read_bytes() == before


def test_a_dry_run_says_the_same_and_writes_nothing(recorded_events: list[Event], path: Path, target: Path) -> None:
    execute_without_triggers(path, "DELETE FROM events WHERE position > 200")
    planned = repair(path, target)
    assert os.listdir(path.parent) == ["log.sqlite"]
    assert planned.target is None
    assert planned == repair(path, target, dry_run=False)._replace(target=None)
    assert planned.broken is not None
    assert planned.broken.position == 201


def test_a_sound_log_needs_no_repair(recorded_events: list[Event], path: Path, target: Path) -> None:
    report = repair(path, target, dry_run=False)
    assert report == RepairReport((recorded_events[-1].position, recorded_events[-1].head), len(recorded_events), None, None)
    assert not target.exists()


def test_a_repair_never_writes_into_a_file(recorded_events: list[Event], path: Path, target: Path) -> None:
    for taken in (path, target):
        taken.touch()
        with pytest.raises(BadInput, match="exists; give the rescue a new name"):
            repair(path, taken, dry_run=False)


@pytest.mark.parametrize(("share", "least"), [(0.3, 20), (0.5, 90), (0.7, 150), (0.9, 250)])
def test_a_file_whose_end_was_torn_off_is_rescued_as_far_as_it_can_be_read(
    recorded_events: list[Event], path: Path, target: Path, share: float, least: int
) -> None:
    os.truncate(path, int(os.path.getsize(path) * share) // PAGE * PAGE)
    report = repair(path, target, dry_run=False)
    assert report.broken is not None
    # Indexes and trees lie scattered over the file, and are not needed.
    assert least < report.sound.position < len(recorded_events)
    assert_rescued(report, recorded_events, path, target)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_with_damaged_pages_is_rescued_as_far_as_it_can_be_read(
    recorded_events: list[Event], path: Path, target: Path, share: float
) -> None:
    corrupt_pages(path, int(os.path.getsize(path) * share) // PAGE)
    report = repair(path, target, dry_run=False)
    assert report.broken is not None
    assert report.sound.position < len(recorded_events)
    assert_rescued(report, recorded_events, path, target)


def test_a_flipped_byte_that_the_database_does_not_notice_is_found(
    recorded_events: list[Event], path: Path, target: Path
) -> None:
    replace_bytes(path, b"number 0150", b"number 0151")
    position = next(event.position for event in recorded_events if getattr(event.fact, "message", "") == "number 0150")
    report = repair(path, target, dry_run=False)
    assert report.broken == Corruption(position, "its content does not match its hash")
    assert report.sound.position == position - 1
    assert_rescued(report, recorded_events, path, target)


def test_a_file_whose_header_is_gone_is_rescued_whole(recorded_events: list[Event], path: Path, target: Path) -> None:
    path.write_bytes(b"\xff" * PAGE + path.read_bytes()[PAGE:])
    report = repair(path, target, dry_run=False)
    assert (report.sound.position, report.promised) == (len(recorded_events), None)
    assert_rescued(report, recorded_events, path, target)
    assert open_log(target).recorded("keyed", "k")


@pytest.mark.parametrize("content", [b"", b"\xff" * 10_000, b"SQLite format 3\0" + b"\x0d" * 10_000])
def test_a_file_that_is_no_log_any_more_is_told(path: Path, target: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is not a GASP log"):
        repair(path, target)


def test_where_nothing_can_be_rescued_repair_does_not_advise_itself(
    recorded_events: list[Event], path: Path, target: Path
) -> None:
    os.truncate(path, 100)
    with pytest.raises(LogCorrupt, match=r"is damaged \(.*\); nothing of it can be rescued, so restore a backup\.$"):
        repair(path, target)
    with pytest.raises(LogCorrupt, match=r"rescue what is sound: `gasp log repair /\S+ NEW`\.$"):
        open_log(path)
