"""`search`: finds questions and answers in a log by words, outcomes and figures, a line each, the latest first."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import typer

from events.cli.app import open_run
from events.cli.output import LARGEST, AsJson, LogName, Printer, print_json, print_note, progress
from events.facts.digests import SHORT
from events.index.location import open_index
from events.index.rows import AppearanceEntry, AttemptsEntry, SearchHit
from events.text.safe_text import markup

EXAMPLES = """\
Find questions and answers, the latest first. All terms must hold; a minus in front negates one.

Words and "phrases" are searched in statements, programs and completions; a word* stands for all \
that begin so.

Fields: kind (goalpost, lemma, lift, open, practice, answers), verdict, axis, seat, task, purpose, reason, source, accepted \
and aligned (yes or no), policy, question and goalpost (the beginning of an id is enough), and the figures passrate, reward, \
similarity, iteration and tokens, which compare by < <= > >= and =. What has no such field is not found by it.

Examples:

search runs/one 'verdict:timeout axis:io passrate<0.2'

search runs/one 'kind:lemma accepted:yes goalpost:3f similarity>0.8'

search runs/one '"sort the list" -kind:practice'

search runs/one 'def solve* -verdict:passed iteration>=20'
"""
DEFAULT_LIMIT = 50
"""Hits that are shown by default."""


def search(
    log: LogName,
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="Words, phrases and fields.")],
    limit: Annotated[int, typer.Option(help="So many at most.", min=1, max=LARGEST // 4)] = DEFAULT_LIMIT,
    before: Annotated[
        int | None, typer.Option(max=LARGEST // 4, help="Only what stands before this position, for more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find questions and answers by words, outcomes and figures."""
    with (
        closing(open_run(log, read_only=True)) as opened,
        progress("index") as on_progress,
        open_index(opened, log, on_progress) as index,
    ):
        hits = index.search(" ".join(query), limit=limit, before=before)
    printer = Printer()
    for hit in hits:
        if as_json:
            print_json(asdict(hit))
        else:
            printer.line(hit_line(hit))
    if not hits:
        print_note("no hits")
    elif len(hits) == limit:
        print_note(f"there may be more: --before {hits[-1].position}")


def hit_line(hit: SearchHit) -> str:
    """A hit as a line of clean markup: position, kind, id, stream, figures, and an excerpt."""
    parts, title = [], ""
    if hit.appearance is not None:
        parts, title = _question(hit.appearance), hit.appearance.title
    if hit.answers is not None:
        parts = _answers(hit.answers)
    texts = [*parts, f"[dim]{markup(hit.excerpt or title)}[/]"]
    return f"{hit.position:>8}  " + "  ".join(text for text in texts if text)


def _question(row: AppearanceEntry) -> list[str]:
    ending = "" if row.accepted is None else "accepted" if row.accepted else f"rejected: {row.reason}"
    return [
        f"[bold]{row.origin}[/]",
        f"[cyan]{row.question or 'no question'}[/]",
        f"{markup(row.stream)} {row.version}",
        row.axis or "",
        f"passed {row.successes}/{row.attempts}" if row.attempts else "",
        ending,
        f"reward {row.reward:.3g}" if row.reward is not None else "",
    ]


def _answers(row: AttemptsEntry) -> list[str]:
    passed = row.outcomes.get("passed", 0)
    others = [f"{count} {outcome}" for outcome, count in row.outcomes.items() if outcome != "passed"]
    return [
        "[bold]answers[/]",
        f"[cyan]{row.question}[/]",
        f"{markup(row.stream)} {row.version}",
        f"{row.purpose} {row.task}",
        f"by {row.policy[:SHORT]}",
        ", ".join([f"passed {passed}/{row.count}", *others]) if row.outcomes else "no verdicts",
        f"reward {row.reward:.3g}" if row.reward is not None else "",
    ]
