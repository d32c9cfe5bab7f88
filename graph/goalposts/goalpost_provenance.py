"""The provenance file of a goalpost file: which policies were asked, how, and with what result.

It repeats what the filter's log says and names the log, so that everything can be checked there.
"""

from __future__ import annotations

from typing import Final

from events.facts.values import Digest, Sampling, Value

PROVENANCE_SUFFIX: Final = ".provenance.json"
"""What stands in the place of `.jsonl` in the name of the file with it."""


class PolicyResult(Value):
    """A policy that was asked."""

    who: str
    """The model or the run that it was taken from."""
    policy: Digest
    """Its weights."""
    iteration: int
    """Iterations that it had learned from."""
    streams: tuple[str, ...]
    """Where its answers are in the log."""
    asked: int
    """Questions that nobody before it had solved."""
    dropped: int
    """How many of them it solved."""


class GoalpostProvenance(Value):
    """Where a goalpost file comes from; it lies beside it."""

    set: str
    """The question set, as it was named."""
    questions: int
    """How many it has."""
    digest: str
    """SHA-256 of their ids, which the log's first event has as well."""
    left_out: dict[str, str]
    """Records of the set that cannot be judged, such as errata, and why."""
    kept: int
    """Goalposts in the file."""
    unsolved: int
    """Questions that nobody solved; above `kept` where fewer were wanted."""
    file: str
    """SHA-256 of the file."""
    samples: int
    """Answers without a success that each policy gave to a question which it did not solve."""
    sampling: Sampling
    """How they were drawn."""
    seed: int
    """Of sampling."""
    prompts: str
    """Digest of the prompt set."""
    named: tuple[str, ...]
    """Whose policies were to be asked: models and runs."""
    policies: tuple[PolicyResult, ...]
    """Who was asked, in this order; nobody twice."""
    commit: str
    """Git commit of the code that started the log, or `unknown`."""
    log: str
    """The folder's name."""
    position: int
    """Position in the log of the event that decided last ..."""
    head: str
    """... and the head there."""
