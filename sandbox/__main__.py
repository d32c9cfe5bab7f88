"""`python -m sandbox`: see which containers there are, and remove those that nobody owns any more."""

from sandbox.commands import sandbox_app

sandbox_app()
