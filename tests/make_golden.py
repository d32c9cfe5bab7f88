"""Makes a golden log: `python -m tests.make_golden tests/golden/log-schema-3-pruned.sqlite`.

Law: one is made per schema of the store, and where kinds of facts are new; never again. It stands for the logs that people have.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from events.errors import BadInput
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create
from events.types import PolicyServed, RunResumed, WeightsPruned
from tests.scenes import START, scene


def main(path: Path) -> None:
    """Tell a short story with every kind of fact."""
    if path.exists():
        raise BadInput(f"{path} exists; a golden log is never made again, so choose the name of a new schema")
    create(path)
    log = SqliteLog(path, clock=lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    tale = scene(log).run(name="golden", seed=0).goalpost().evaluate().start(3)
    tale.episode(rejected=["degenerate"]).practice().fail().finish().update()
    log.append("policy/shared", [WeightsPruned(digests=(START,))])
    log.append("run", [PolicyServed(role="student", policy=tale.policies["student"])], observed={"seconds": 0.25})
    log.append("run", [RunResumed(position=log.head().position)], causation=1)
    log.append("run", [RunResumed(position=log.head().position)], key="resume/2")
    tale.evaluate(successes=5).end()
    log.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
