"""A snapshot saves work and changes no figure; what is doubtful is thrown away."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from events.facts.log import Event
from events.projections.run_summary import RunSummary, fold
from events.projections.snapshots import Snapshot
from events.stores.memory import MemoryLog
from tests.support.example_runs import example_run
from tests.support.log_contract import episode_failed


@dataclass
class Kinds:
    kinds: Counter[str] = field(default_factory=Counter)
    applied: int = 0

    def apply(self, event: Event) -> None:
        self.kinds.update([event.fact.kind])
        self.applied += 1


class ReadCountingLog(MemoryLog):
    events_read = 0

    def read(self, *args: object, **options: object):
        for event in super().read(*args, **options):
            self.events_read += 1
            yield event


class PrefixLog(MemoryLog):
    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.events = events

    def read(self, stream: str | None = None, *, after: int = 0, **options: object):
        return iter(self.events[after:])


@pytest.fixture
def log() -> ReadCountingLog:
    log = ReadCountingLog()
    example_run(log).run().goalpost(2).play()
    return log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kinds.json"


def test_a_fold_goes_on_from_its_snapshot_and_comes_to_the_same(log: ReadCountingLog, path: Path) -> None:
    assert Snapshot(path, Kinds, every=1).fold(log) == fold(Kinds(), log.read())
    log.append("run", [episode_failed(), episode_failed()])
    log.events_read = 0
    folded = Snapshot(path, Kinds, every=1).fold(log)
    assert log.events_read == 3, "the event of the snapshot, and the two behind it"
    assert folded == fold(Kinds(), log.read())


def test_the_summary_of_a_run_can_go_on_from_any_position(path: Path) -> None:
    whole = MemoryLog()
    example_run(whole).run().goalpost(2).evaluate().play().update().start(2).episode(
        lemma=None
    ).practice().fail().finish().end()
    events = list(whole.read())
    for cut in range(1, len(events), 4):
        path.unlink(missing_ok=True)
        Snapshot(path, RunSummary, every=1).fold(PrefixLog(events[:cut]))
        assert Snapshot(path, RunSummary).fold(PrefixLog(events)) == fold(RunSummary(), events), cut


def test_a_fold_says_how_far_it_is(log: ReadCountingLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.projections.snapshots.REPORT_EVERY", 10)
    reports: list[tuple[int, int]] = []
    Snapshot(path, RunSummary).fold(log, lambda done, of: reports.append((done, of)))
    end = log.head().position
    assert reports == [(done, end) for done in range(10, end + 1, 10)] != []


def test_a_snapshot_is_written_only_when_enough_is_new(log: ReadCountingLog, path: Path) -> None:
    last = log.head().position
    Snapshot(path, Kinds, every=last + 1).fold(log)
    assert not path.exists()
    Snapshot(path, Kinds, every=last).fold(log)
    assert path.exists()


@dataclass
class OtherKinds(Kinds):
    more: int = 0


@pytest.mark.parametrize("again", [lambda path: Snapshot(path, Kinds, version=2), lambda path: Snapshot(path, OtherKinds)])
def test_a_snapshot_of_another_projection_is_not_used(
    log: ReadCountingLog, path: Path, again: Callable[[Path], Snapshot[Kinds]]
) -> None:
    Snapshot(path, Kinds, every=1).fold(log)
    log.events_read = 0
    assert again(path).fold(log).applied == log.head().position
    assert log.events_read >= log.head().position


def made_anew() -> type[Kinds]:
    """The same class at another address, as in another process."""

    @dataclass
    class SameKinds(Kinds):
        more: int = 0

    return SameKinds


def test_a_snapshot_is_used_by_another_process(log: ReadCountingLog, path: Path) -> None:
    first, second = made_anew(), made_anew()
    Snapshot(path, first, every=1).fold(log)
    log.events_read = 0
    assert Snapshot(path, second).fold(log).applied == log.head().position
    assert log.events_read < log.head().position


def test_a_snapshot_of_another_log_is_not_used(log: ReadCountingLog, path: Path) -> None:
    Snapshot(path, Kinds, every=1).fold(log)
    other = MemoryLog()
    other.append("run", [episode_failed(str(number)) for number in range(log.head().position + 5)])
    assert Snapshot(path, Kinds, every=1).fold(other) == fold(Kinds(), other.read())


@pytest.mark.parametrize("damage", [b"", b"{", b'{"shape": 1}', b"\xff"])
def test_a_damaged_snapshot_is_not_used(log: ReadCountingLog, path: Path, damage: bytes) -> None:
    Snapshot(path, Kinds, every=1).fold(log)
    path.write_bytes(damage)
    assert Snapshot(path, Kinds).fold(log) == fold(Kinds(), log.read())


def test_a_snapshot_that_cannot_be_written_is_done_without(log: ReadCountingLog, tmp_path: Path) -> None:
    assert Snapshot(tmp_path / "missing" / "kinds.json", Kinds, every=1).fold(log) == fold(Kinds(), log.read())
