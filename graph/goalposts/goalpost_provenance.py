"""The provenance file of a goalpost file: which policies were asked, how, and with what result.

It repeats what the filter's log says and names the log, so that everything can be checked there.
"""

from __future__ import annotations

from typing import Final

from events.facts.values import Digest, QuestionId, Sampling, Value

PROVENANCE_SUFFIX: Final = ".provenance.json"
"""Suffix of the provenance file, in the place of `.jsonl`."""


class PolicyResult(Value):
    """How a policy did on the questions that were left."""

    who: str
    """The model or run that it was taken from."""
    policy: Digest
    iteration: int
    """Iterations that it was trained on."""
    streams: tuple[str, ...]
    """Streams of the log with its attempts."""
    asked: int
    """Questions that no policy before it had solved."""
    dropped: int
    """Questions that it solved ..."""
    solved: tuple[QuestionId, ...] = ()
    """... and which; empty in files of before this was written down."""


class GoalpostProvenance(Value):
    """The content of a provenance file."""

    set: str
    """The question set, as the command named it."""
    questions: int
    digest: str
    """SHA-256 (hex) of their ids, also in the log's first event."""
    left_out: dict[str, str]
    """Reasons why records of the set cannot be judged, such as errata, by their names."""
    kept: int
    """Goalposts in the file."""
    unsolved: int
    """Questions that no policy solved; more than `kept` where `--most` said fewer."""
    file: str
    """SHA-256 (hex) of the file."""
    samples: int
    """Attempts of each policy at each question that it did not solve."""
    sampling: Sampling
    seed: int
    prompts: str
    named: tuple[str, ...]
    """Models and runs whose policies were asked."""
    policies: tuple[PolicyResult, ...]
    """Results, in the order of asking; no policy twice."""
    commit: str
    """Git commit of the code that started the log, or `unknown`."""
    log: str
    """Name of the filter's folder."""
    position: int
    """Position in the log of the last event that counts ..."""
    head: str
    """... and the head hash there."""
