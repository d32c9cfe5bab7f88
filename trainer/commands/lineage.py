"""`lineage`: which rollouts fed some weights, and which weights a rollout fed, for people and programs.

Law: it reads logs; a digest or a rollout is looked for in the runs of this folder unless a run is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from events.cli.app import holds_log, open_run
from events.cli.output import AsJson, Printer, print_json
from events.facts.errors import BadInput
from events.facts.log import Log, find_run_started
from events.text.safe_text import markup
from trainer.data import weight_lineage as lines
from trainer.data.weight_lineage import GenerationLineage, PositionedUpdate

DIGEST_DIGITS = 12
"""Digits of a digest that are shown."""


def lineage(
    digest: Annotated[str | None, typer.Argument(help="Weights: their digest, its first digits, or their folder.")] = None,
    rollout: Annotated[
        str | None, typer.Option(metavar="ID", help="A rollout: STREAM:VERSION, or STREAM:VERSION/INDEX, instead.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="The run, as its folder or URL; else it is looked for in --runs.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    ancestors: Annotated[bool, typer.Option("--ancestors", help="Also what fed the weights that it was made of.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what fed some weights, or by --rollout which weights a rollout fed.

    Weights are fed by one update, and by those before it through
    their parent: --ancestors tells of them all.
    """
    if (digest is None) == (rollout is None):
        raise BadInput("Give a digest of weights or --rollout ID, and not both")
    if digest is not None and Path(digest).is_dir():
        folder = Path(digest).absolute()
        run, digest = run or str(folder.parents[1]), folder.name
    where = run or _find_run(runs, digest, rollout)
    with closing(open_run(where)) as log:
        if digest is not None:
            _show_weights(log, where, digest, ancestors=ancestors, as_json=as_json)
        elif rollout is not None:
            _show_generation(log, where, rollout, as_json=as_json)


def _find_run(runs: Path, digest: str | None, rollout: str | None) -> str:
    """The one run in which there is such a thing."""
    found: list[str] = []
    for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
        if holds_log(folder):
            with closing(open_run(str(folder))) as log:
                try:
                    lines.ancestry(log, digest) if digest is not None else lines.find_generation(log, rollout or "")
                    found.append(str(folder))
                except BadInput:
                    continue
    if len(found) != 1:
        several = f"{', '.join(found)} all have" if found else f"No run in {runs} has"
        raise BadInput(f"{several} {digest or rollout!r}; name the run by --run")
    return found[0]


def _show_weights(log: Log, where: str, digits: str, *, ancestors: bool, as_json: bool) -> None:
    line = lines.ancestry(log, digits)
    told = line if ancestors else line[:1]
    fed = [(update, list(_consumed(log, update))) for update in told]
    if as_json:
        print_json(
            {"run": where, "parents": [one.fact.parent for one in line], "updates": [_update_dict(*pair) for pair in fed]}
        )
        return
    printer = Printer()
    if not line:
        printer.say(f"{markup(where)} started with these weights; nothing in its log fed them")
    for update, rollouts in fed:
        fact = update.fact
        printer.say(
            f"[bold]{fact.digest}[/] · {fact.policy} after iteration {fact.iteration},"
            f" position {update.position} of {markup(where)}"
        )
        source = f" of source {fact.source}" if fact.source else ""
        counts = f"{len(rollouts)} rollouts with {sum(len(one.rewards) for one in rollouts)} completions"
        printer.say(f"made of {fact.parent[:DIGEST_DIGITS]} and positions {fact.after + 1}–{fact.until}{source}: {counts}")
        printer.show(_table(rollouts))
        printer.say(f"questions: {_names(one.question for one in rollouts)}")
        printer.say(f"goalposts: {_names(one.goalpost for one in rollouts)}")
    if line and not ancestors:
        printer.say(f"ancestors: {' ← '.join(one.fact.parent[:DIGEST_DIGITS] for one in line)} (what fed them: --ancestors)")


def _consumed(log: Log, update: PositionedUpdate) -> list[GenerationLineage]:
    if update.fact.source == 0:
        return lines.consumed_generations(log, update.fact)
    from trainer.job.offline import resume_plan

    first = find_run_started(log)
    assert first is not None
    with closing(open_run(str(resume_plan(log, first).sources[update.fact.source - 1]))) as source:
        return lines.consumed_generations(source, update.fact)


def _show_generation(log: Log, where: str, name: str, *, as_json: bool) -> None:
    rollout, index = lines.find_generation(log, name)
    fed = lines.consuming_updates(log, rollout)
    if as_json:
        updates = [{"position": one.position, "policy": one.fact.policy, "digest": one.fact.digest} for one in fed]
        print_json({"run": where, "rollout": asdict(rollout), "index": index, "updates": updates})
        return
    printer = Printer()
    printer.say(f"[bold]{markup(name)}[/] · sampled by {rollout.sampled_by} in {markup(where)}")
    printer.show(_table([rollout]))
    for one in fed:
        printer.say(f"fed {one.fact.digest} · {one.fact.policy} after iteration {one.fact.iteration}, position {one.position}")
    if not fed:
        printer.say(f"fed nothing: {_why_unconsumed(rollout)}")


def _why_unconsumed(rollout: GenerationLineage) -> str:
    if rollout.position is None:
        return "it was not rewarded, so that nothing is learned from it"
    return "its episode broke off" if rollout.failed else "its iteration has not been learned yet"


def _table(rollouts: Sequence[GenerationLineage]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("rollout", "phase", "task", "question", "goalpost", "sampled by", "rewards"):
        table.add_column(title, no_wrap=title != "rewards")
    for one in rollouts:
        rewards = ", ".join(f"{count} × {reward:g}" for reward, count in Counter(one.rewards).items())
        place = (markup(one.id), one.phase or "", one.task, one.question, one.goalpost or "")
        table.add_row(*place, one.sampled_by[:DIGEST_DIGITS], rewards)
    return table


def _names(ids: Iterator[str | None]) -> str:
    return ", ".join(dict.fromkeys(markup(one) for one in ids if one is not None)) or "none"


def _update_dict(update: PositionedUpdate, rollouts: Sequence[GenerationLineage]) -> dict[str, Any]:
    return {
        "position": update.position,
        **update.fact.model_dump(exclude={"kind", "steps"}),
        "questions": sorted({one.question for one in rollouts}),
        "goalposts": sorted({one.goalpost for one in rollouts if one.goalpost}),
        "rollouts": [asdict(one) for one in rollouts],
    }
