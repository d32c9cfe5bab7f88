"""Command `lineage`: which rollouts some weights learned from, and which weights learned from a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli.app import holds_log, open_run
from events.cli.output import AsJson, Printer, print_json
from events.facts.certainty_facts import TextGiven
from events.facts.digests import SHORT
from events.facts.errors import BadInput
from events.facts.log import Log
from events.projections.lineage import consumed_texts
from events.text.safe_text import markup
from trainer.data.weight_lineage import (
    GenerationLineage,
    PositionedUpdate,
    ancestry,
    consumed_generations,
    consuming_updates,
    find_generation,
)


def lineage(
    digest: Annotated[str | None, typer.Argument(help="Weights: their digest, its first digits, or their folder.")] = None,
    rollout: Annotated[
        str | None, typer.Option(metavar="ID", help="A rollout: STREAM:VERSION, or STREAM:VERSION/INDEX, instead.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="The run, as its folder or URL; else it is looked for in --runs.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    ancestors: Annotated[bool, typer.Option("--ancestors", help="Show the updates before it too, through parents.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the rollouts that some weights learned from, or by --rollout the weights that learned from a rollout."""
    if (digest is None) == (rollout is None):
        raise BadInput("Give a digest of weights or --rollout ID, and not both.")
    if digest is not None and Path(digest).is_dir():
        folder = Path(digest).absolute()
        run, digest = run or str(folder.parents[1]), folder.name
    run = run or _find_run(runs, digest, rollout)
    with closing(open_run(run)) as log:
        if digest is not None:
            _show_weights(log, run, digest, ancestors=ancestors, as_json=as_json)
        elif rollout is not None:
            _show_generation(log, run, rollout, as_json=as_json)


def _find_run(runs: Path, digest: str | None, rollout: str | None) -> str:
    """The one run that has the weights or the rollout."""
    matches: list[str] = []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        if holds_log(folder):
            with closing(open_run(str(folder))) as log:
                try:
                    ancestry(log, digest) if digest is not None else find_generation(log, rollout or "")
                    matches.append(str(folder))
                except BadInput:
                    continue
    if len(matches) != 1:
        several = f"{', '.join(matches)} all have" if matches else f"No run in {runs} has"
        raise BadInput(f"{several} {digest or rollout!r}; name the run by --run.")
    return matches[0]


def _show_weights(log: Log, run: str, digits: str, *, ancestors: bool, as_json: bool) -> None:
    line = ancestry(log, digits)
    updates = [(update, list(_consumed(log, update))) for update in (line if ancestors else line[:1])]
    parents = [update.fact.parent for update in line]
    if as_json:
        print_json({"run": run, "parents": parents, "updates": [_update_dict(*pair) for pair in updates]})
        return
    printer = Printer()
    if not line:
        printer.say(f"{markup(run)} started with these weights; no update in its log made them")
    for update, generations in updates:
        fact = update.fact
        made = f"{fact.policy} after iteration {fact.iteration}, position {update.position}"
        printer.say(f"[bold]{fact.digest}[/] · {made} of {markup(run)}")
        source = f" of source {fact.source}" if fact.source else ""
        counts = f"{len(generations)} rollouts with {sum(len(generation.rewards) for generation in generations)} completions"
        printer.say(f"made of {fact.parent[:SHORT]} and positions {fact.after + 1}–{fact.until}{source}: {counts}")
        if texts := len(_consumed_texts(log, update)):
            printer.say(f"and of {texts} given text{'' if texts == 1 else 's'}, which nobody sampled")
        printer.show(_table(generations))
        printer.say(f"questions: {_names(generation.question for generation in generations)}")
        printer.say(f"goalposts: {_names(generation.goalpost for generation in generations)}")
    if line and not ancestors:
        printer.say(f"ancestors: {' ← '.join(parent[:SHORT] for parent in parents)} (their rollouts: --ancestors)")


@contextmanager
def _log_of(log: Log, update: PositionedUpdate) -> Iterator[Log]:
    """The log that an update learned from: its own, or the source that it names."""
    if update.fact.source == 0:
        yield log
        return
    from trainer.job.offline import source_paths

    with closing(open_run(str(source_paths(log)[update.fact.source - 1]))) as source:
        yield source


def _consumed(log: Log, update: PositionedUpdate) -> list[GenerationLineage]:
    with _log_of(log, update) as source:
        return consumed_generations(source, update.fact)


def _consumed_texts(log: Log, update: PositionedUpdate) -> list[TextGiven]:
    with _log_of(log, update) as source:
        return consumed_texts(source, update.fact)


def _show_generation(log: Log, run: str, name: str, *, as_json: bool) -> None:
    generation, index = find_generation(log, name)
    updates = consuming_updates(log, generation)
    if as_json:
        rows = [{"position": update.position, "policy": update.fact.policy, "digest": update.fact.digest} for update in updates]
        print_json({"run": run, "rollout": asdict(generation), "index": index, "updates": rows})
        return
    printer = Printer()
    printer.say(f"[bold]{markup(name)}[/] · sampled by {generation.sampled_by} in {markup(run)}")
    printer.show(_table([generation]))
    for update in updates:
        fact = update.fact
        printer.say(f"learned by {fact.digest} · {fact.policy} after iteration {fact.iteration}, position {update.position}")
    if not updates:
        printer.say(f"not learned: {_why_unconsumed(generation)}")


def _why_unconsumed(generation: GenerationLineage) -> str:
    if generation.position is None:
        return "it has no reward"
    if generation.failed:
        return "its episode failed"
    tried = generation.set and generation.role == "student"
    return f"{'its set was tried and not promoted, or ' if tried else ''}its iteration has not been learned yet"


def _table(generations: Sequence[GenerationLineage]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("rollout", "phase", "task", "question", "goalpost", "sampled by", "rewards"):
        table.add_column(title, no_wrap=title != "rewards")
    for row in generations:
        rewards = ", ".join(f"{count} × {reward:g}" for reward, count in Counter(row.rewards).items())
        cells = (row.phase or "", row.task, row.question, row.goalpost or "", row.sampled_by[:SHORT], rewards)
        table.add_row(markup(row.id), *cells)
    return table


def _names(ids: Iterator[str | None]) -> str:
    return ", ".join(dict.fromkeys(markup(name) for name in ids if name is not None)) or "none"


def _update_dict(update: PositionedUpdate, generations: Sequence[GenerationLineage]) -> dict[str, Any]:
    return {
        "position": update.position,
        **update.fact.model_dump(exclude={"kind", "steps"}),
        "questions": sorted({generation.question for generation in generations}),
        "goalposts": sorted({generation.goalpost for generation in generations if generation.goalpost}),
        "rollouts": [asdict(generation) for generation in generations],
    }
