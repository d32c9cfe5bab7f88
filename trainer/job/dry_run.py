"""Dry run: describes the updates that would be made, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from events.facts.digests import SHORT
from trainer.data.step_batches import StepBatch
from trainer.job.update_schedule import UpdateSchedule


def describe_updates(schedule: UpdateSchedule) -> Iterator[str]:
    """A line for each update that waits, in order, and one for their sum."""
    cursors = {name: schedule.cursor(name) for name in schedule.policies}
    total: Counter[str] = Counter()
    while waiting := {name: next_end for name, cursor in cursors.items() if (next_end := schedule.next(cursor))}:
        for name, (cursor, end) in waiting.items():
            iteration = schedule.rollouts(cursor, end)
            batches = schedule.step_batches(cursor, iteration)
            source = f" of source {cursor.source}" if cursor.source else ""
            positions = f"positions {iteration.after + 1}–{iteration.until}{source}"
            update = f"iteration {iteration.iteration} · {name} · {positions}"
            yield f"{update} · {_describe(batches)} · digest {iteration.digest[:SHORT]}"
            total.update(updates=1, steps=sum(bool(batch.rollouts) for batch in batches))
            total.update(samples=sum(len(batch.rollouts) for batch in batches))
            total.update(tokens=sum(batch.learned_tokens for batch in batches))
            cursors[name] = replace(cursor, until=end.position)
    epochs = schedule.config.learn.epochs
    yield (
        f"{total['updates']} updates in {total['steps'] * epochs} steps, on {total['samples']} samples with {total['tokens']}"
        f" tokens{f', {epochs} times each' if epochs > 1 else ''}; nothing was trained"
    )


def _describe(batches: list[StepBatch]) -> str:
    rollouts = sum(len(batch.rollouts) for batch in batches)
    groups, zero = sum(batch.groups for batch in batches), sum(batch.silent_groups for batch in batches)
    phases = ", ".join(f"{batch.phase} {len(batch.rollouts)}" for batch in batches) or "no rewards"
    silent: Counter[str] = Counter()
    for batch in batches:
        silent.update(batch.silent)
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(silent.items()))
    without = f" · {zero} of {groups} groups without advantage{f' ({reasons})' if reasons else ''}"
    return f"{rollouts} samples ({phases}), {sum(batch.learned_tokens for batch in batches)} tokens{without}"
