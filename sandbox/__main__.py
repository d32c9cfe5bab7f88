"""`python -m sandbox`: see which containers there are, and remove those that nobody owns any more."""

from events.cli import run_app
from sandbox.commands import sandbox_app

run_app(sandbox_app)
