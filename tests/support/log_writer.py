"""A process that appends to a log and says what was acknowledged; the crash and race tests start and kill it.

python -m tests.support.log_writer LOG NAME COUNT
"""

import sys

from events.facts.types import EpisodeFailed, GoalpostAdded
from events.stores import open_log


def main(where: str, name: str, count: int) -> None:
    """Append batches of two facts with a blob, to a stream of its own and to a shared one in turn."""
    log = open_log(where, create=True)
    print_line("ready")
    for number in range(count):
        blob = log.put(f"{name} {number} ".encode() * 50)
        stream = ("shared", f"own/{name}")[number % 2]
        added = GoalpostAdded(question=f"{number}", blob=blob, source=name)
        last = log.append(stream, [EpisodeFailed(error=name, message=str(number)), added])[-1]
        print_line(f"{last.position} {last.hash}")


def print_line(line: str) -> None:
    """Acknowledge at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
