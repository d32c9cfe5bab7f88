"""What verified attempts teach beyond rewards: answers that passed, and pairs of one that passed and one that failed.

Law: a pure fold of a log, in its order; tokens are those that were sampled, and equal ones count once. Examinations and
attempts at goalposts stay out, because they measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from events.facts.log import Log
from events.facts.rollouts import unpack_rollouts
from events.facts.types import AttemptsMade, AttemptsVerified

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class PassedCompletion:
    """A completion that passed."""

    prompt: Tokens
    ids: Tokens


@dataclass(frozen=True)
class PreferencePair:
    """A completion that passed and one that failed, of one prompt."""

    prompt: Tokens
    chosen: Tokens
    rejected: Tokens


def passed_completions(log: Log) -> Iterator[PassedCompletion]:
    """Every answer that passed, once."""
    seen: set[PassedCompletion] = set()
    for prompt, passed, _ in _generations(log):
        for one in (PassedCompletion(prompt, ids) for ids in passed):
            if one not in seen:
                seen.add(one)
                yield one


def preference_pairs(log: Log) -> Iterator[PreferencePair]:
    """For every prompt, its answers that passed with as many that failed, in order."""
    seen: set[PreferencePair] = set()
    for prompt, passed, failed in _generations(log):
        for one in (PreferencePair(prompt, *both) for both in zip(dict.fromkeys(passed), dict.fromkeys(failed), strict=False)):
            if one not in seen:
                seen.add(one)
                yield one


def _generations(log: Log) -> Iterator[tuple[Tokens, list[Tokens], list[Tokens]]]:
    """Of each generation, the prompt, the completions that passed, and those that failed."""
    made: dict[tuple[str, int], AttemptsMade] = {}
    for event in log.read(kinds=("attempts_made", "attempts_verified")):
        match event.fact:
            case AttemptsMade(purpose="pass_rate" | "solve" | "practice") as fact:
                made[event.stream, event.version] = fact
            case AttemptsVerified(of=of, verdicts=verdicts) if (event.stream, of) in made:
                rollouts = unpack_rollouts(log.get(made.pop((event.stream, of)).generation.tokens))
                found: dict[bool, list[Tokens]] = {True: [], False: []}
                for ids, verdict in zip(rollouts.ids, verdicts, strict=True):
                    found[verdict.outcome == "passed"].append(tuple(ids.tolist()))
                yield tuple(rollouts.prompt.tolist()), found[True], found[False]
            case _:
                pass
