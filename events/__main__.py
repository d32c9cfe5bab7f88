"""`python -m events`: commands on logs."""

from __future__ import annotations

import typer

from events.cli.app import run_app
from events.commands.export import export
from events.commands.listing import list_runs
from events.commands.maintenance import backup, merge, migrate, repair, verify
from events.commands.plot import plot
from events.commands.search import EXAMPLES, search
from events.commands.show import show, tail
from events.commands.stats import stats

app = typer.Typer(name="python -m events", help="Commands on event logs.", no_args_is_help=True, add_completion=False)

app.command("list")(list_runs)
for command in (show, tail, stats, export, plot, verify, backup, repair, merge, migrate):
    app.command()(command)
# A term of a query may begin with a minus, as options do.
app.command(help=EXAMPLES, context_settings={"ignore_unknown_options": True})(search)


if __name__ == "__main__":
    run_app(app)
