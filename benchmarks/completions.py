"""`make bench-completions`: judges a file of completions by our verifier and by EvalPlus itself, and says where they differ."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.command import run_main
from benchmarks.suites import records
from events.cli.output import print_note, progress
from events.facts.errors import BadInput
from events.facts.values import Verdict
from events.text.safe_text import one_line
from roles.questions.fields import Record
from roles.questions.named_sets import SOURCES, parse_spec
from roles.questions.records import QuestionRecord, read_question_records
from roles.verifier import Verifier
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Limits

JUDGE = Path(__file__).with_name("evalplus_judge.py")
LIMITS = Limits(wall_seconds=120, cpu_seconds=20, memory_mb=1024, output_kb=1024)
"""Limits of CPU time rather than wall time, so that load on the machine changes no verdict."""
AT_ONCE = 16


class CompletionRow(NamedTuple):
    """A completion and its question."""

    name: str
    text: str
    entry: QuestionRecord


class EvalPlusVerdict(NamedTuple):
    """EvalPlus's verdicts of its own extraction of the program: alone, and after the context that the question shows."""

    alone: bool
    with_context: bool


def read_completions(file: Path, entries: dict[str, QuestionRecord]) -> list[CompletionRow]:
    """The completions of a file.

    Raises:
        BadInput: a line is no completion of a question of the set.
    """
    rows = []
    try:
        for number, row in enumerate(records(file), 1):
            name, completion = (row.get(key) if isinstance(row, dict) else None for key in ("task_id", "completion"))
            if not isinstance(completion, str) or name not in entries:
                raise BadInput(f"{file}, record {number}: expected a task_id of the set and the text completion; fix it.")
            rows.append(CompletionRow(str(name), completion, entries[str(name)]))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read ({error}); give JSON lines with task_id and completion.") from error
    return rows


async def our_verdicts(completions: list[CompletionRow]) -> list[Verdict]:
    """Our verdict on each completion, by the rules of its benchmark."""
    runner = DockerRunner(LIMITS, run="completions")
    rules = {completion.entry.question.id: completion.entry.rules for completion in completions}
    verifier = Verifier(runner, pairs=2, public_pairs=1, per_test=True, question_rules=rules)
    room, done = asyncio.Semaphore(AT_ONCE), 0

    async def judge(completion: CompletionRow) -> Verdict:
        nonlocal done
        async with room:
            (verdict,) = (await verifier.judge(completion.entry.question, "induction", None, [completion.text])).verdicts
        done += 1
        on_progress(done, len(completions))
        return verdict

    try:
        with progress("our verdicts") as on_progress:
            return list(await asyncio.gather(*map(judge, completions)))
    finally:
        await runner.close()


def evalplus_verdicts(
    completions: list[CompletionRow], records_by_name: dict[str, dict[str, Any]], python: Path
) -> list[EvalPlusVerdict]:
    """EvalPlus's verdict on each completion.

    Raises:
        BadInput: that Python has no EvalPlus.
    """
    lines = (
        json.dumps({"record": records_by_name[row.name], "completion": row.text, "context": row.entry.question.context}) + "\n"
        for row in completions
    )
    # One by one: with all of them in the pipes at once, both sides could block.
    verdicts: list[EvalPlusVerdict] = []
    try:
        with (
            subprocess.Popen(
                [python, JUDGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as judge,
            progress("EvalPlus's verdicts") as on_progress,
        ):
            assert judge.stdin is not None
            assert judge.stdout is not None
            for line in lines:
                judge.stdin.write(line)
                judge.stdin.flush()
                verdicts.append(EvalPlusVerdict(**json.loads(judge.stdout.readline())))
                on_progress(len(verdicts), len(completions))
            judge.stdin.close()
    except (OSError, ValueError) as error:
        raise BadInput(f"{python} cannot ask EvalPlus ({error}); give a Python with `pip install evalplus==0.3.1`.") from error
    return verdicts


def main(
    file: Annotated[Path, typer.Argument(help="JSON lines with task_id and completion.")],
    questions: Annotated[str, typer.Option("--set", metavar="SPEC", help="Their question set, such as humanevalplus:FILE.")],
    evalplus: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            help="A Python with evalplus, for its verdicts. It runs the completions on this machine, without a sandbox!",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for a row of JSON a completion.")] = None,
) -> None:
    """Judge completions as a run would, compare with EvalPlus where there is one, and exit 1 where they differ."""
    spec = parse_spec(questions, "test")
    if spec.place is None:
        raise BadInput(f"{questions!r} names no file; give the set with one, such as humanevalplus:FILE.")
    entries = {entry.label.name: entry for entry in read_question_records(spec) if isinstance(entry, QuestionRecord)}
    completions = read_completions(file, entries)
    rows = {SOURCES[spec.name].label(Record(row)).name: row for row in records(spec.place)} if evalplus else {}
    if any("base_input" not in row for row in rows.values()):
        raise BadInput(f"{spec.place} is not in EvalPlus's own layout (base_input, plus_input), which its verdicts need.")
    ours = asyncio.run(our_verdicts(completions))
    theirs = (
        [{}] * len(ours) if evalplus is None else [each._asdict() for each in evalplus_verdicts(completions, rows, evalplus)]
    )
    table = [
        {"task_id": completion.name, "ours": verdict.outcome, "detail": verdict.detail, **their}
        for completion, verdict, their in zip(completions, ours, theirs, strict=True)
    ]
    if out is not None:
        out.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    passed = sum(verdict.outcome == "passed" for verdict in ours)
    sys.stdout.write(f"{passed} of {len(completions)} pass\n")
    if evalplus is None:
        print_note("without --evalplus nothing was compared")
        return
    counts = Counter((row["ours"] == "passed", row["with_context"]) for row in table)
    sys.stdout.write(f"EvalPlus: {sum(row['alone'] for row in table)} alone, {sum(row['with_context'] for row in table)} with")
    sys.stdout.write(f" the context; {counts[True, True] + counts[False, False]} agree\n")
    differ = [row for row in table if (row["ours"] == "passed") != row["with_context"]]
    for row in differ:
        other = "pass" if row["with_context"] else "fail"
        sys.stdout.write(f"{row['task_id']}: ours {row['ours']}, EvalPlus {other}  {one_line(row['detail'], 120)}\n")
    raise typer.Exit(1 if differ else 0)


if __name__ == "__main__":
    run_main(main)
