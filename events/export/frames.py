"""Tables as polars frames: `attempts(run)`, `questions(run)`, `texts(run)`, `updates(run)`, `trials(run)`, `gaps(run)`.

    from events.export import frames
    frames.attempts("runs/run-001").group_by("iteration", "task").agg(pl.col("reward").mean())

`events.export.tables` explains the columns. A frame holds the log as it was when it was read, in memory; for a log that does
not fit, use `gasp log export`. Needs the extra `data`; `.to_pandas()` makes a frame of pandas.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from events.cli.app import open_run, run_name
from events.export import requires_extra
from events.export.table_rows import TABLES
from events.facts.log import Log

if TYPE_CHECKING:
    import polars as pl

Run = str | Path | Log
"""The directory of a run, its log.sqlite, a postgresql:// URL, or an open log, whose run is called `run`."""


def attempts(run: Run) -> pl.DataFrame:
    """Every completion, the teacher's included; columns: `events.export.tables.AttemptRow`."""
    return _frame("attempts", run)


def questions(run: Run) -> pl.DataFrame:
    """Goalposts, proposals, and questions of real data; columns: `events.export.tables.QuestionRow`."""
    return _frame("questions", run)


def texts(run: Run) -> pl.DataFrame:
    """Every text that was given to learn; columns: `events.export.tables.TextRow`."""
    return _frame("texts", run)


def trials(run: Run) -> pl.DataFrame:
    """Every trial of a set of questions; columns: `events.export.tables.TrialRow`."""
    return _frame("trials", run)


def updates(run: Run) -> pl.DataFrame:
    """Every update of a policy; columns: `events.export.tables.UpdateRow`."""
    return _frame("updates", run)


def gaps(run: Run) -> pl.DataFrame:
    """Every measure of a goalpost's gap; columns: `events.export.tables.GapRow`."""
    return _frame("gaps", run)


def _frame(table: str, run: Run) -> pl.DataFrame:
    with requires_extra("data"):
        import polars as pl
        import pyarrow as pa

        from events.export.arrow import batches, schema
    with _opened(run) as (log, name):
        until = log.head().position
        columns = schema(table, log, until)
        rows = (row.columns() for row in TABLES[table].rows(log, name, until))
        frame = pl.from_arrow(pa.Table.from_batches(batches(rows, columns), columns))
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def _opened(run: Run) -> Iterator[tuple[Log, str]]:
    if isinstance(run, str | Path):
        with closing(open_run(str(run))) as log:
            yield log, run_name(str(run))
    else:
        yield run, "run"
