"""A process that appends to a log and says what was acknowledged; the crash and race tests start and kill it.

python -m tests.support.log_writer LOG NAME COUNT
"""

import subprocess
import sys
from pathlib import Path

from events.facts.log import Log
from events.facts.types import EpisodeFailed, GoalpostAdded
from events.stores import open_log
from tests.support.processes import start_module


def start_writer(where: Path | str, name: str, count: int) -> subprocess.Popen[str]:
    return start_module("tests.support.log_writer", where, name, count)


def acknowledged(process: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """What the writer said until it ended; a killed one's last line may be torn."""
    lines = [line.split() for line in process.communicate()[0].splitlines()]
    return [(int(line[0]), line[1]) for line in lines if len(line) == 2 and len(line[1]) == 64]


def assert_holds(log: Log, acknowledgements: list[tuple[int, str]]) -> None:
    """Nothing that was acknowledged is lost, nothing is torn, and the log is sound."""
    events = {event.position: event for event in log.read()}
    assert acknowledgements
    assert all(events[position].hash == hash_ for position, hash_ in acknowledgements)
    assert sorted(events) == list(range(1, len(events) + 1))
    assert len(events) % 2 == 0
    assert log.verify() is None


def main() -> None:
    """Append batches of two facts with a blob, to a stream of its own and to a shared one in turn."""
    where, name, count = sys.argv[1:]
    log = open_log(where, create=True)
    print_line("ready")
    for number in range(int(count)):
        blob = log.put(f"{name} {number} ".encode() * 50)
        stream = ("shared", f"own/{name}")[number % 2]
        added = GoalpostAdded(question=f"{number}", blob=blob, source=name)
        last = log.append(stream, [EpisodeFailed(error=name, message=str(number)), added])[-1]
        print_line(f"{last.position} {last.hash}")


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
