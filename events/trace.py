"""`python -m events.trace RUN [GOALPOST]`: what happened in a run, or at one goalpost, for people.

Law: a reader of the log and nothing else; text that a model or the outside wrote is shown without control characters and
without markup. It judges and repairs nothing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.tree import Tree

from events.cli import open_any, run_app
from events.errors import LogCorrupt
from events.log import Log
from events.overview import SHORT, counts, number, overview, overview_json
from events.projections import RunSummary, fold
from events.safe_text import markup
from events.story import AttemptsStory, EpisodeStory, GoalpostStory, ProposalStory, find_goalpost, tell
from events.values import BlobHash, Question, Seat

STATEMENT = 100
"""Characters of a statement that are shown."""
NAMES: dict[Seat, str] = {"easy": "lemma", "hard": "lift", "open": "open question"}

app = typer.Typer(name="python -m events.trace", add_completion=False)


@app.command()
def trace(
    run: Annotated[str, typer.Argument(help="Directory of a run, its log.sqlite, or a postgresql:// URL.")],
    goalpost: Annotated[str | None, typer.Argument(help="Id of a goalpost, or its first digits.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a run: its iterations, gap, teacher, learning, examinations and goalposts; or the story of one goalpost."""
    log = open_any(run)
    if goalpost is None:
        summary = fold(RunSummary(), log.read())
        data, shown = overview_json(summary), overview(summary)
    else:
        story = tell(log, find_goalpost(log, goalpost))
        data, shown = asdict(story), tree(story, log)
    if as_json:
        json.dump(data, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        # Nobody's window limits a pipe.
        Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(shown)


def tree(story: GoalpostStory, log: Log) -> Tree:
    """The story as a tree: goalpost, episodes, lemmas, lifts."""
    gaps = [gap for _, gap in story.gaps]
    moved = f"gap {gaps[0]:.2f} → {gaps[-1]:.2f} in {len(gaps)} measures" if gaps else "gap not measured yet"
    root = Tree(f"[bold]goalpost {story.question}[/] from {markup(story.source, 32)}, {moved}")
    root.add(_statement(story.blob, log))
    for episode in story.episodes:
        _add_episode(root, episode, log)
    return root


def _add_episode(root: Tree, episode: EpisodeStory, log: Log) -> None:
    after = f" → {episode.gap_after:.2f}" if episode.gap_after is not None else ""
    gap = "" if episode.gap is None else f", gap {episode.gap:.2f}{after}, best share {number(episode.best_share)}"
    learned = f", learned by {', '.join(digest[:SHORT] for digest in episode.learned)}" if episode.learned else ""
    ending = markup((episode.ending or "going on").replace("_", " "))
    branch = root.add(f"[bold]{markup(episode.stream)}[/] axis {episode.axis}: {ending}{gap}{learned}")
    if episode.failure:
        branch.add(f"[red]{markup(episode.failure, 200)}[/]")
    for answers in episode.answers:
        branch.add(_answers(answers))
    # A lift hangs under the lemma that it varies.
    under: dict[str, Tree] = {}
    for proposal in episode.proposals:
        node = under.get(proposal.parent, branch).add(_proposal(proposal))
        if proposal.question is not None and proposal.accepted:
            under[proposal.question] = node
        if proposal.blob is not None:
            node.add(_statement(proposal.blob, log))
        for answers in proposal.answers:
            node.add(_answers(answers))


def _proposal(proposal: ProposalStory) -> str:
    name = NAMES[proposal.seat]
    parts = [] if proposal.question is None else [proposal.question[:SHORT]]
    if proposal.attempts:
        parts.append(f"solved {proposal.successes}/{proposal.attempts}")
    if proposal.reward is not None:
        parts.append(f"reward {proposal.reward:.2f}")
    if proposal.similarity is not None:
        parts.append(f"similarity {proposal.similarity:.2f}")
    if proposal.aligned is not None:
        parts.append("aligned" if proposal.aligned else "[yellow]not aligned[/]")
    figures = ", ".join(parts)
    if proposal.accepted:
        return f"[green]{name}[/] {figures}"
    reason = f"{(proposal.rejected or 'not judged yet').replace('_', ' ')} {markup(proposal.detail, STATEMENT)}".strip()
    return f"[dim]{name} proposal {proposal.attempt}: {reason}[/] {figures}"


def _answers(answers: AttemptsStory) -> str:
    mean = f", mean reward {sum(answers.rewards) / len(answers.rewards):.2f}" if answers.rewards else ""
    return f"{answers.purpose.replace('_', ' ')} as {answers.task}: {counts(answers.outcomes) or 'not verified yet'}{mean}"


def _statement(blob: BlobHash, log: Log) -> str:
    try:
        return f"[italic]{markup(Question.model_validate_json(log.get(blob)).statement, STATEMENT)}[/]"
    except (LogCorrupt, ValueError):
        return f"[red]question {blob[:SHORT]} cannot be read; run verify[/]"


if __name__ == "__main__":
    run_app(app)
