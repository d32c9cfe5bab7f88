"""`python -m roles reverify RUN`: judges recorded attempts again, and reports every verdict that changes.

Guarantees: the same completions, questions and limits as recorded, and the same image if the engine has it, else a warning. The
log is read only.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError

from events.cli.app import open_run
from events.cli.output import AsJson, LogName, Printer, print_json, print_note, progress
from events.facts.errors import BadInput, SandboxError
from events.facts.label_facts import LabelVoted
from events.facts.log import Event, Log, find_run_started
from events.facts.questions import read_question
from events.facts.types import AttemptsMade, AttemptsVerified, EpisodeStarted, GoalpostAdded, QuestionValidated, RunStarted
from events.facts.values import BlobHash, Provenance, Question, QuestionId, Verdict
from events.process import shutdown
from events.text.safe_text import markup
from events.text.validation import first_problem
from roles.generation_record import completion_texts
from roles.judging.vote import Ties
from roles.questions.load import load_questions
from roles.verifier import Verifier
from sandbox.host.docker_runner import DockerRunner
from sandbox.runner import Job, Limits

MAX_CONCURRENT = 8
"""Recorded judgements that are repeated at the same time."""
_PROBE_JOB = Job(source="def f():\n    return 1\n", inputs=("",))


class RecordedJudgement(NamedTuple):
    """Recorded verdicts, and the attempts that they are about."""

    event: Event
    made: AttemptsMade
    verified: AttemptsVerified
    truth: BlobHash | None = None
    """The outputs that the statement asks for, where the log holds them."""
    label: BlobHash | None = None
    """The outputs that answers with the document had, where these decide; None also where they had none."""


class Flip(NamedTuple):
    """A verdict that has changed."""

    position: int
    stream: str
    question: QuestionId
    attempt: int
    old: Verdict
    new: Verdict

    def row(self) -> dict[str, Any]:
        """The same for JSON."""
        return {**self._asdict(), "old": self.old.model_dump(), "new": self.new.model_dump()}


def judgements(log: Log) -> Iterator[RecordedJudgement]:
    """All recorded judgements, in order."""
    voted = [(event.stream, event.fact) for event in log.read(kinds={"label_voted"}) if isinstance(event.fact, LabelVoted)]
    truths = {(stream, fact.of): fact.truth for stream, fact in voted}
    labels = {(stream, fact.question): fact.label for stream, fact in voted if fact.informed}
    made: dict[tuple[str, int], AttemptsMade] = {}
    for event in log.read(kinds={"attempts_made", "attempts_verified"}):
        if isinstance(event.fact, AttemptsMade):
            made[event.stream, event.version] = event.fact
        elif isinstance(event.fact, AttemptsVerified):
            of = (event.stream, event.fact.of)
            attempts = made.pop(of)
            yield RecordedJudgement(event, attempts, event.fact, truths.get(of), labels.get((event.stream, attempts.question)))


@dataclass
class RunQuestions:
    """The questions of a run: those in its log, and those of the question set that it is evaluated on."""

    log: Log
    blobs: dict[QuestionId, BlobHash] = field(default_factory=dict)
    tested: dict[QuestionId, Question] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for event in self.log.read(kinds={"run_started", "goalpost_added", "episode_started", "question_validated"}):
            match event.fact:
                case GoalpostAdded() | EpisodeStarted() | QuestionValidated() as fact:
                    self.blobs[fact.question] = fact.blob
                case RunStarted(config={"test": str(name)}) if name != "none":
                    try:
                        questions = load_questions(name, "test").questions
                        # Logs from before questions had a context name them by their ids without it.
                        bare = [question.model_copy(update={"context": ""}) for question in questions if question.context]
                        self.tested = {question.id: question for question in (*bare, *questions)}
                    except BadInput as error:
                        print_note(f"the questions of the run's tests are not there: {error}")

    def get(self, question: QuestionId) -> Question | None:
        """The question; None if it is in neither."""
        blob = self.blobs.get(question)
        return self.tested.get(question) if blob is None else read_question(self.log, blob)


@dataclass
class Reverifier:
    """Judges attempts again under the recorded conditions."""

    log: Log
    _runners: dict[str, DockerRunner] = field(default_factory=dict)

    async def flips(self, chosen: Iterable[tuple[RecordedJudgement, Question]]) -> AsyncGenerator[list[Flip], None]:
        """For each judgement, in order, the verdicts that change.

        Raises:
            SandboxError: the sandbox failed.
            BadInput: this version does not know the recorded limits.
        """
        waiting: deque[asyncio.Task[list[Flip]]] = deque()
        try:
            for judgement, question in chosen:
                verifier = await self._verifier(judgement.verified.provenance)
                waiting.append(asyncio.create_task(self._again(verifier, judgement, question)))
                if len(waiting) == MAX_CONCURRENT:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            for runner in self._runners.values():
                await runner.close()

    async def _again(self, verifier: Verifier, judgement: RecordedJudgement, question: Question) -> list[Flip]:
        event, made, verified, truth, label = judgement
        texts, labels = completion_texts(self.log, made.generation), verified.provenance.labels
        if labels == "question":
            again = await verifier.judge(question, made.task, made.pair, texts)
        else:
            # The whole generation votes again.
            outputs = [None if blob is None else tuple(json.loads(self.log.get(blob))) for blob in (truth, label)]
            again = (await verifier.judge_by_label(question, texts, labels, self._ties, *outputs)).judged
        return [
            Flip(event.position, event.stream, made.question, attempt, old, new)
            for attempt, (old, new) in enumerate(zip(verified.verdicts, again.verdicts, strict=True))
            if (old.outcome, old.passed, old.total) != (new.outcome, new.passed, new.total)
        ]

    @cached_property
    def _ties(self) -> Ties:
        started = find_run_started(self.log)
        return "none" if started is None else started.config.get("verify", {}).get("ties", "none")

    async def _verifier(self, provenance: Provenance) -> Verifier:
        name = provenance.model_dump_json()
        if name not in self._runners:
            self._runners[name] = await _runner(provenance)
        rules, per_test = provenance.rules, provenance.per_test
        return Verifier(self._runners[name], pairs=1, public_pairs=0, rules=rules, per_test=per_test)


async def _runner(provenance: Provenance) -> DockerRunner:
    """A runner under the recorded conditions; with today's image, and a warning, if the engine has not the recorded one."""
    try:
        limits = Limits.model_validate(provenance.limits)
    except ValidationError as error:
        key, _ = first_problem(error)
        raise BadInput(
            f"The verdicts were reached under a limit {key!r} that this version does not know; use its own."
        ) from error
    recorded = DockerRunner(limits, run="reverify", image=provenance.image, notify=print_note)
    try:
        await recorded.run([_PROBE_JOB])
        return recorded
    except SandboxError as error:
        await recorded.close()
        today = DockerRunner(limits, run="reverify", notify=print_note)
        image = await asyncio.to_thread(lambda: today.provenance.image)
        print_note(f"not with the recorded image {provenance.image[:19]} ({error}), but with {image[:19]}")
        return today


async def _reverify(log: Log, count: int, seed: int, *, as_json: bool) -> int:
    questions, printer = RunQuestions(log), Printer()
    chosen = list(judgements(log))
    if 0 < count < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, count), key=lambda judgement: judgement.event.position)  # noqa: S311
    known = [(judgement, question) for judgement in chosen if (question := questions.get(judgement.made.question)) is not None]
    flips: list[Flip] = []
    with progress("judging again") as show:
        async with aclosing(Reverifier(log).flips(known)) as again:
            done = 0
            async for part in again:
                done += 1
                show(done, len(known))
                flips += part
                _print_flips(part, printer, as_json=as_json)
    verdicts = sum(len(judgement.verified.verdicts) for judgement, _ in known)
    counts = {"judgements": len(known), "verdicts": verdicts, "flips": len(flips), "unknown": len(chosen) - len(known)}
    if as_json:
        print_json(counts)
        return len(flips)
    unknown = f"; {counts['unknown']} judgements left out, whose questions are not there" if counts["unknown"] else ""
    printer.say(f"{len(flips)} flips among {verdicts} verdicts of {len(known)} judgements{unknown}")
    return len(flips)


def _print_flips(flips: Sequence[Flip], printer: Printer, *, as_json: bool) -> None:
    for flip in flips:
        if as_json:
            print_json(flip.row())
            continue
        old, new = (f"{verdict.outcome} {verdict.passed}/{verdict.total}" for verdict in (flip.old, flip.new))
        where = f"{flip.position:>8}  [cyan]{markup(flip.stream)}[/]  {flip.question}  attempt {flip.attempt}"
        printer.line(f"{where}  {old} → [bold]{new}[/]  {markup(flip.new.detail)}")


def reverify(
    log: LogName,
    sample: Annotated[int, typer.Option(help="Number of judgements, drawn at random; 0: all.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Judge recorded attempts again and report every verdict that changes; exit code 1 if there is one."""
    with closing(open_run(log)) as opened:
        flips = shutdown.run(_reverify(opened, sample, seed, as_json=as_json))
    raise typer.Exit(1 if flips else 0)
