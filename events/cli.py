"""The edge of every command: errors become one sentence and an exit code, never a traceback.

Law: what we raise on purpose (`GaspError`) is printed as it is; Ctrl-C is exit 130; a reader that closed the pipe is no error.
Anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import os
import sys

import click
import typer

from events.errors import GaspError
from events.safe_text import safe


def run_app(app: typer.Typer) -> int:
    """Run a command and return its exit code."""
    try:
        code = app(standalone_mode=False)
    except GaspError as error:
        print(f"error: {safe(str(error))}", file=sys.stderr)  # noqa: T201 (the one place where errors are shown)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader has gone; a later flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0
