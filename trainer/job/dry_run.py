"""Tells what would be trained, without training it and without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from events.facts.digests import SHORT
from trainer.data.credited_samples import StepBatch
from trainer.job.update_schedule import UpdateSchedule


def describe_updates(syllabus: UpdateSchedule) -> Iterator[str]:
    """A line for each update that waits, in their order, and one for all."""
    places = {name: syllabus.place(name) for name in syllabus.policies}
    total: Counter[str] = Counter()
    while waiting := {name: found for name, place in places.items() if (found := syllabus.next(place))}:
        for name, (place, end) in waiting.items():
            window = syllabus.window(place, end)
            todo = syllabus.lessons(place, window)
            source = f" of source {place.source}" if place.source else ""
            where = f"positions {window.after + 1}–{window.until}{source}"
            yield f"iteration {window.iteration} · {name} · {where} · {_describe(todo)} · digest {window.digest[:SHORT]}"
            total.update(updates=1, steps=sum(bool(one.credited) for one in todo), **_size(todo))
            places[name] = replace(place, until=end.position)
    epochs = syllabus.config.learn.epochs
    yield (
        f"{total['updates']} updates in {total['steps'] * epochs} steps, on {total['samples']} samples with {total['tokens']}"
        f" tokens{f', {epochs} times each' if epochs > 1 else ''}; nothing was trained"
    )


def _describe(todo: list[StepBatch]) -> str:
    size, groups = _size(todo), sum(lesson.groups for lesson in todo)
    phases = ", ".join(f"{lesson.phase} {len(lesson.credited)}" for lesson in todo) or "no rewards"
    silent: Counter[str] = Counter()
    for lesson in todo:
        silent.update(lesson.silent)
    why = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(silent.items()))
    without = f" · {sum(lesson.silent_groups for lesson in todo)} of {groups} groups silent{f' ({why})' if why else ''}"
    return f"{size['samples']} samples ({phases}), {size['tokens']} tokens{without}"


def _size(todo: list[StepBatch]) -> dict[str, int]:
    samples = [one.sample for lesson in todo for one in lesson.credited]
    return {"samples": len(samples), "tokens": sum(len(sample.ids) for sample in samples)}
