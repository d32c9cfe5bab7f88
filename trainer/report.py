"""Says in a line what an update did."""

from __future__ import annotations

from events.log import Event
from events.types import PolicyUpdated


def pairs(event: Event) -> dict[str, str | int | float]:
    """What matters of an update, by name."""
    fact = event.fact
    assert isinstance(fact, PolicyUpdated)
    steps = [step for step in fact.steps if step.samples]
    tokens = sum(step.tokens for step in steps)
    found: dict[str, str | int | float] = {
        "policy": fact.policy,
        "iteration": fact.iteration,
        "digest": fact.digest[:12],
        "steps": len(steps),
        "samples": sum(step.samples for step in steps),
        "tokens": tokens,
        "silent_groups": sum(step.silent_groups for step in fact.steps),
        "groups": sum(step.groups for step in fact.steps),
    }
    for name in ("loss", "grad_norm", "entropy", "clip_ratio/region_mean"):
        if steps:
            found[name] = round(sum(step.metrics[name] * step.tokens for step in steps) / tokens, 4)
    found["seconds"] = round(float(event.observed.get("seconds", 0.0)), 2)
    found["tokens_per_second"] = round(float(event.observed.get("tokens_per_second", 0.0)))
    return found


def line(event: Event) -> str:
    """The same as one line for people."""
    found = pairs(event)
    head = f"iteration {found['iteration']} · {found['policy']} {found['digest']}"
    silent = f"{found['silent_groups']} of {found['groups']} groups silent"
    if not found["steps"]:
        return f"{head} · nothing to learn ({silent})"
    work = f"{found['steps']} steps on {found['samples']} samples, {found['tokens']} tokens, {silent}"
    signs = f"loss {found['loss']} · grad {found['grad_norm']} · entropy {found['entropy']}"
    return f"{head} · {work} · {signs} · {found['seconds']} s, {found['tokens_per_second']} tokens/s"
