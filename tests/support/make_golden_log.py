"""Makes a golden log: `python -m tests.support.make_golden_log tests/golden/log-schema-3-pooled.sqlite`.

One is made per schema of the store, and where kinds of facts or their schemas are new; never again. It stands for the logs that people have.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from events.facts.drawn_facts import DocumentDrawn, PooledQuestion, PoolMade, ReferencesDrawn
from events.facts.errors import BadInput
from events.facts.types import PolicyProbed, PolicyServed, RunResumed
from events.facts.values import BlobHash, Digest, Sampling, canonical
from events.facts.weight_facts import WeightsPruned
from events.stores.sqlite import SqliteLog
from events.stores.sqlite_file import create
from tests.support.example_runs import START_WEIGHTS, example_run, question


def main(path: Path) -> None:
    """Tell a short story with every kind of fact."""
    if path.exists():
        raise BadInput(f"{path} exists; a golden log is never made again, so choose the name of a new schema")
    create(path)
    log = SqliteLog(path, clock=lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    tale = example_run(log, sampling=Sampling(stop=("\n\n",))).run(name="golden", seed=0).goalpost().evaluate().start(3)
    tale.episode(rejected=["degenerate"]).practice().fail()
    tale.open(question(1), "unguided")
    log.append(tale.stream, [ReferencesDrawn(references=(BlobHash(log.put(canonical(question(1)))),))])
    tale.propose("open", 1, question(1), 6, 10, voted={"right": True})
    tale.give(certain=False)
    tale.in_set(1).practice()
    begun, tried = tale.begin_trial(1), Digest("7" * 64)
    tale.learn_trial(begun, tried).examine_trial(begun, tried, before=1, after=2).promote(begun, tried).in_set(0)
    document = BlobHash(log.put(canonical(question(2))))
    tale.open(question(2), "unguided")
    log.append(tale.stream, [DocumentDrawn(document=document, level="hard")])
    about, _ = tale.propose("open", 1, question(2), 2, 8, informed=5)
    pooled = PooledQuestion(question=BlobHash(log.put(canonical(about))), document=document, level="hard")
    log.append("run", [PoolMade(iteration=1, questions=(pooled,), similar=1)])
    tale.finish().update()
    newest = tale.policies["student"]
    log.append("policy/shared", [PolicyProbed(digest=newest, tokens=(5, 6, 7), logprobs=(-0.5, -0.25))])
    log.append("policy/shared", [WeightsPruned(digests=(START_WEIGHTS,))])
    served = PolicyServed(role="student", policy=newest, difference=2e-06, mean_difference=1e-06)
    log.append("run", [served], observed={"seconds": 0.25})
    log.append("run", [RunResumed(position=log.head().position)], causation=1)
    log.append("run", [RunResumed(position=log.head().position)], key="resume/2")
    tale.evaluate(successes=5).calibrate(scores=[(True, 0.75, 0.875), (False, 0.5, 0.25)]).end()
    log.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
