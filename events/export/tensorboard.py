"""Curves and settings for TensorBoard, as one event file: `tensorboard --logdir` shows its folder, or many such folders.

It needs `tensorboard` alone, neither TensorFlow nor torch. Times are those of the events.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from events.export import atomic_folder
from events.export.metrics import run_curves
from events.stores.raw import Store


def write(log: Store, out: Path, *, name: str) -> str:
    """Write an event file. See `events.export.Exporter`."""
    started, settings, points = run_curves(log)
    rows = "".join(f"| {key} | {value} |\n" for key, value in settings.items())
    began = started.timestamp()
    with atomic_folder(out) as folder:
        writer = EventFileWriter(str(folder))
        # Settings twice: as a table to read, and as hyperparameters that compare runs.
        writer.add_event(Event(wall_time=began, summary=text_pb("settings", f"| setting | value |\n|---|---|\n{rows}")))
        writer.add_event(Event(wall_time=began, summary=hparams_pb(settings, trial_id=name, start_time_secs=began)))
        for point in points:
            scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
            writer.add_event(Event(wall_time=point.time.timestamp(), step=point.step, summary=Summary(value=scalars)))
        writer.close()
    return f"curves of {name} to {out}; see them with: tensorboard --logdir {quote(str(out))}"
