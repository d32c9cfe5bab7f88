"""Examples for warm starts: completions that passed, and pairs of one that passed and one that failed.

Guarantees: in the log's order, as sampled, equal examples once. Text that completions begin with by their answer form is part
of the prompt, so that nothing is learned from it. Left out are evaluations and attempts at goalposts, because they measure,
attempts that only a vote judged, and completions that were given text further on.
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
    """Token ids, like all below."""
    ids: Tokens


@dataclass(frozen=True)
class PreferencePair:
    """A completion that passed and one that failed, to one prompt."""

    prompt: Tokens
    chosen: Tokens
    rejected: Tokens


def passed_completions(log: Log) -> list[PassedCompletion]:
    """Every completion that passed, once."""
    examples = (PassedCompletion(prompt, ids) for prompt, passed, _ in _generations(log) for ids in passed)
    return list(dict.fromkeys(examples))


def preference_pairs(log: Log) -> list[PreferencePair]:
    """For every generation, its completions that passed paired with as many that failed, in order; equal pairs once."""
    pairs = (
        PreferencePair(prompt, chosen, rejected)
        for prompt, passed, failed in _generations(log)
        for chosen, rejected in zip(dict.fromkeys(passed), dict.fromkeys(failed), strict=False)
    )
    return list(dict.fromkeys(pairs))


def _generations(log: Log) -> Iterator[tuple[Tokens, list[Tokens], list[Tokens]]]:
    """Of each generation: the prompt, the completions that passed, and those that failed."""
    made: dict[tuple[str, int], AttemptsMade] = {}
    for event in log.read(kinds=("attempts_made", "attempts_verified")):
        match event.fact:
            case AttemptsMade(purpose="pass_rate" | "solve" | "practice") as fact:
                made[event.stream, event.version] = fact
            # By a vote, an answer that passed agrees with others, which is no sign that it is right.
            case AttemptsVerified(of=of, provenance=provenance) if provenance.labels in ("vote", "informed"):
                made.pop((event.stream, of), None)
            case AttemptsVerified(of=of, verdicts=verdicts) if (event.stream, of) in made:
                rollouts = unpack_rollouts(log.get(made.pop((event.stream, of)).generation.tokens))
                # The given beginning is the same in all completions of a prompt.
                first = rollouts.sampled[0]
                begin = int(first.argmax()) if first.any() else len(first)
                by_result: dict[bool, list[Tokens]] = {True: [], False: []}
                for ids, sampled, verdict in zip(rollouts.ids, rollouts.sampled, verdicts, strict=True):
                    if sampled[begin:].all():
                        by_result[verdict.outcome == "passed"].append(tuple(ids[begin:].tolist()))
                yield (*rollouts.prompt.tolist(), *rollouts.ids[0][:begin].tolist()), by_result[True], by_result[False]
