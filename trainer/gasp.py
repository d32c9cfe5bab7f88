"""The `gasp` command: one entrance to the commands of all packages, each of which `python -m MODULE` starts as well.

Guarantees: `gasp --help` imports no command, and a command imports no module of another.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    import typer


class Command(NamedTuple):
    """A word behind `gasp`, and what it starts."""

    name: str
    target: str
    """`module:name` of a Typer application, or of the function of a single command."""
    summary: str
    """One line for `gasp --help`."""


GROUPS = {
    "Play and learn": (
        Command("run", "graph.run:app", "Play a run and learn from it; without options a small one, no GPU needed."),
        Command("resume", "graph.run:resume", "Go on with a run that was stopped, even by kill -9."),
        Command("experiment", "trainer.experiment:app", "Compare recipes over seeds at equal budgets, and report."),
        Command("goalposts", "graph.goalposts.__main__:app", "Keep the questions of a set that plain RL does not solve."),
        Command("estimate", "graph.estimate.budget:main", "Compute memory, time and disk that learning would take."),
    ),
    "Look at runs": (
        Command("trace", "events.trace:app", "Show a run, why a goalpost was or was not solved, or one attempt."),
        Command("web", "events.web.__main__:app", "Show the same in a browser, live while a run plays."),
        Command("log", "events.__main__:app", "List, search, verify, export, plot, back up, repair and merge logs."),
    ),
    "Measure": (
        Command("evaluate", "trainer.evaluate:app", "Measure pass@k of a policy or model, with confidence intervals."),
        Command("reverify", "roles.commands.reverify:reverify", "Judge recorded attempts again and report every flip."),
        Command("lineage", "trainer.commands.lineage:lineage", "Find the rollouts that fed some weights, and the reverse."),
    ),
    "Learn from logs": (
        Command("train", "trainer.run:app", "Learn what a run has played; with --offline, train again from logs."),
        Command("sft", "trainer.warm_start:sft", "Fine-tune a model on the attempts that passed."),
        Command("dpo", "trainer.warm_start:dpo", "Tune a model on pairs of passed and failed attempts."),
    ),
    "Questions, prompts, models": (
        Command("questions", "roles.commands.questions:questions_app", "List, show, validate and make question sets."),
        Command("prompts", "roles.commands.prompts:prompts_app", "List prompt sets and render their prompts."),
        Command("serve", "roles.serve:app", "Start vLLM servers by hand; a run starts its own."),
    ),
    "The sandbox": (
        Command("sandbox", "sandbox.__main__:sandbox_app", "List the containers, and remove those whose owner is gone."),
        Command("engine", "sandbox.engine.__main__:engine_app", "Start, stop and inspect the Docker engine."),
    ),
}
"""Every command, as `gasp --help` and docs/commands.md list them."""


def application(command: Command) -> typer.Typer:
    """The command as an application of its own; imports its module."""
    from importlib import import_module

    import typer

    module, _, name = command.target.partition(":")
    target = getattr(import_module(module), name)
    if isinstance(target, typer.Typer):
        return target
    app = typer.Typer(add_completion=False)
    app.command()(target)
    return app


def help_page() -> str:
    """What `gasp --help` prints."""
    lines = ["gasp: guided asymmetric self-play for coding LLMs, recorded in an event log.", ""]
    lines += ["Usage: gasp COMMAND [OPTIONS]", "       gasp COMMAND --help", ""]
    for title, commands in GROUPS.items():
        lines += [f"{title}:", *(f"  {command.name:<11}{command.summary}" for command in commands), ""]
    lines += ["To begin:", "  gasp run                      play the default run, about ten minutes on two cores"]
    lines += ["  gasp trace runs/run-001       see what happened; its last lines say what to type next"]
    return "\n".join(lines)


def main() -> NoReturn:
    """Run the command that the command line names, and end the process with its exit code."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("--help", "-h"):
        # A reader that leaves early, such as `head`, ends this quietly.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(help_page())  # noqa: T201 (the output)
        sys.exit(0)
    command = next((command for commands in GROUPS.values() for command in commands if command.name == word), None)
    if command is None:
        sys.stderr.write(f"error: There is no command {word!r}; `gasp --help` lists them.\n")
        sys.exit(2)
    # The script that hints name and, as the last word, the command in usage lines.
    sys.argv = [f"{sys.argv[0].removesuffix('.py')} {word}", *sys.argv[2:]]
    from events.cli.app import run_app

    run_app(application(command))


if __name__ == "__main__":
    main()
