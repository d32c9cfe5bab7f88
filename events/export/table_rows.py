"""Reads the rows of each table from a log, up to a position.

Guarantees: memory holds only episodes that have not ended. An episode's rows come when it has ended, those of open ones last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from events.cli.output import progress
from events.export.tables import AttemptRow, GapRow, QuestionRow, TableRow, TextRow, TrialRow, UpdateRow
from events.facts.certainty_facts import TextGiven
from events.facts.drawn_facts import DocumentDrawn
from events.facts.errors import LogCorrupt
from events.facts.label_facts import LabelVoted
from events.facts.log import Event, Log
from events.facts.questions import read_question
from events.facts.rollouts import unpack_rollouts
from events.facts.trial_facts import StudentPromoted, TrialExamined
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    EpisodeFailed,
    EpisodeFinished,
    EpisodeStarted,
    EvaluationFinished,
    GapMeasured,
    GoalpostAdded,
    IterationStarted,
    PolicyUpdated,
    QuestionProposed,
    RewardGiven,
)
from events.facts.values import BlobHash, Digest, QuestionId, id_of_blob
from events.index.entries import ORIGINS
from events.projections.certainty import certainty_by_question, certainty_of
from events.projections.proposals import ProposalState, apply_proposal
from events.reports.run_overview import mean_reward

_ENDS = ("episode_finished", "episode_failed", "evaluation_finished", "trial_examined")
_ATTEMPTS = ("episode_started", "question_proposed", "attempts_made", "attempts_verified", "reward_given", *_ENDS)
_PROPOSALS = (
    "question_proposed",
    "question_rejected",
    "question_validated",
    "label_voted",
    "pass_rate_measured",
    "question_accepted",
    "reward_given",
)
_QUESTIONS = ("goalpost_added", "episode_started", "document_drawn", *_PROPOSALS, "episode_finished", "episode_failed")
_GAPS = ("goalpost_added", "iteration_started", "gap_measured", "evaluation_finished")


class ExportTable(NamedTuple):
    """A table of the export."""

    row: type[TableRow]
    rows: Callable[[Log, str, int], Iterator[TableRow]]
    """Reads its rows from a log, given the name of the run and the last position to read."""


@dataclass
class _OpenStream:
    """A stream that has not ended, and its completions so far."""

    iteration: int | None = None
    made: list[Event] = field(default_factory=list)
    verified: dict[int, AttemptsVerified] = field(default_factory=dict)
    rewarded: dict[int, tuple[int, RewardGiven]] = field(default_factory=dict)
    """Position and fact of each reward, by version of the completions."""


def attempts(log: Log, run: str, until: int) -> Iterator[AttemptRow]:
    """Every completion that was sampled; LogCorrupt if a blob is missing or damaged, or contradicts its event."""
    open_streams: dict[str, _OpenStream] = {}
    for event in _events(log, until, _ATTEMPTS):
        stream = open_streams.setdefault(event.stream, _OpenStream())
        match event.fact:
            case (
                EpisodeStarted(iteration=iteration)
                | EvaluationFinished(iteration=iteration)
                | TrialExamined(iteration=iteration)
            ):
                stream.iteration = iteration
            case QuestionProposed() | AttemptsMade():
                stream.made.append(event)
            case AttemptsVerified() as fact:
                stream.verified[fact.of] = fact
            case RewardGiven() as fact:
                stream.rewarded[fact.of] = event.position, fact
        if isinstance(event.fact, EvaluationFinished):
            for share in [name for name in open_streams if name.startswith(f"{event.stream}/")]:
                open_streams[share].iteration = event.fact.iteration
                yield from _completions(log, run, open_streams.pop(share), None)
        if event.fact.kind in _ENDS:
            yield from _completions(log, run, open_streams.pop(event.stream), _ending(event))
    for stream in open_streams.values():
        yield from _completions(log, run, stream, None)


def _completions(log: Log, run: str, stream: _OpenStream, ending: str | None) -> Iterator[AttemptRow]:
    certainties = certainty_by_question(log, stream.made[0].stream) if stream.made else {}
    for event in stream.made:
        assert isinstance(event.fact, QuestionProposed | AttemptsMade)
        generation = event.fact.generation
        prompt = log.get(generation.prompt).decode("utf-8", "surrogatepass")
        texts, rollouts = json.loads(log.get(generation.texts)), unpack_rollouts(log.get(generation.tokens))
        verified = stream.verified.get(event.version)
        rewarded_at, rewarded = stream.rewarded.get(event.version, (None, None))
        verdicts = [verdict.model_dump() for verdict in verified.verdicts] if verified else [{}] * len(texts)
        rewards = rewarded.rewards if rewarded else [None] * len(texts)
        if {len(texts), len(rollouts.ids), len(verdicts), len(rewards)} != {generation.count}:
            message = f"Position {event.position} has {generation.count} completions, but not as many texts or rewards"
            raise LogCorrupt(f"{message}; the log is damaged, run verify.")
        request = _request_columns(event.fact)
        for index, text in enumerate(texts):
            sure = certainty_of(certainties, request["question"], index, generation.count)
            yield AttemptRow(
                run=run,
                position=event.position,
                stream=event.stream,
                version=event.version,
                index=index,
                iteration=stream.iteration,
                ending=ending,
                **request,
                prompt=prompt,
                completion=text,
                prompt_ids=rollouts.prompt,
                completion_ids=rollouts.ids[index],
                logprobs=rollouts.logprobs[index],
                sampled=rollouts.sampled[index],
                reward=rewards[index],
                reward_position=rewarded_at,
                phase=rewarded.phase if rewarded else None,
                **verdicts[index],
                **(sure._asdict() if sure else {}),
                container=verified.provenance.image if verified else None,
                policy=generation.policy,
                template=generation.template,
                seed=generation.seed,
                **generation.sampling.model_dump(),
            )


def _request_columns(fact: QuestionProposed | AttemptsMade) -> dict[str, Any]:
    if isinstance(fact, QuestionProposed):
        return {"purpose": "proposal", "role": "teacher", "task": fact.seat, "question": fact.parent}
    return {"purpose": fact.purpose, "role": "student", "task": fact.task, "question": fact.question, "pair": fact.pair}


@dataclass
class _OpenGuidedEpisode:
    """An episode with a teacher that has not ended."""

    started: EpisodeStarted
    drawn: DocumentDrawn | None = None
    proposals: list[ProposalState] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    """Position of each proposal, by version."""


def questions(log: Log, run: str, until: int) -> Iterator[QuestionRow]:
    """Goalposts, proposals, questions of real data, and documents; LogCorrupt if a blob is missing or damaged."""
    open_streams: dict[str, _OpenGuidedEpisode] = {}
    documents: set[BlobHash] = set()
    for event in _events(log, until, _QUESTIONS):
        columns = {"run": run, "position": event.position, "stream": event.stream, "version": event.version}
        match event.fact:
            case GoalpostAdded(source=source, blob=blob):
                yield QuestionRow(**columns, origin="goalpost", source=source, **_question_columns(log, blob))
            case EpisodeStarted(purpose="practice") as fact:
                columns |= {"iteration": fact.iteration, "set": fact.set or None}
                yield QuestionRow(**columns, origin="practice", **_question_columns(log, fact.blob))
            case EpisodeStarted() as fact:
                open_streams[event.stream] = _OpenGuidedEpisode(fact)
            case EpisodeFinished() | EpisodeFailed() if event.stream in open_streams:
                yield from _proposals(log, run, event.stream, open_streams.pop(event.stream), _ending(event))
            case RewardGiven(role="student"):
                pass
            case DocumentDrawn(document=document) as fact:
                if document not in documents:
                    documents.add(document)
                    yield QuestionRow(**columns, origin="document", **_question_columns(log, document))
                if event.stream in open_streams:
                    open_streams[event.stream].drawn = fact
            case _ if event.stream in open_streams:
                episode = open_streams[event.stream]
                apply_proposal(event, episode.proposals)
                if isinstance(event.fact, QuestionProposed):
                    episode.positions[event.version] = event.position
    for stream, episode in open_streams.items():
        yield from _proposals(log, run, stream, episode, None)


def _proposals(log: Log, run: str, stream: str, episode: _OpenGuidedEpisode, ending: str | None) -> Iterator[QuestionRow]:
    for proposal in episode.proposals:
        judged = proposal.accepted or proposal.rejected is not None
        yield QuestionRow(
            run=run,
            position=episode.positions[proposal.version],
            stream=stream,
            version=proposal.version,
            iteration=episode.started.iteration,
            ending=ending,
            set=episode.started.set or None,
            origin=ORIGINS[proposal.seat],
            seat=proposal.seat,
            attempt=proposal.attempt,
            axis=episode.started.axis,
            parent=proposal.parent,
            **({} if proposal.blob is None else _question_columns(log, proposal.blob)),
            accepted=proposal.accepted if judged else None,
            reason=proposal.rejected,
            detail=proposal.detail or None,
            similarity=proposal.similarity,
            aligned=proposal.aligned,
            successes=proposal.successes,
            attempts=proposal.attempts,
            agreeing=proposal.agreeing,
            pass_rate=proposal.successes / proposal.attempts if proposal.successes is not None and proposal.attempts else None,
            reward=proposal.reward,
            **_vote_columns(proposal.vote),
            **_document_columns(episode.drawn, proposal.vote_alone),
        )


def _vote_columns(vote: LabelVoted | None) -> dict[str, Any]:
    if vote is None:
        return {}
    labelled = vote.label is not None
    counts = {"votes": vote.votes, "runner_up": vote.runner_up}
    return {**counts, "labelled": labelled, "label_agrees": vote.agrees, "label_right": vote.right}


def _document_columns(drawn: DocumentDrawn | None, alone: LabelVoted | None) -> dict[str, Any]:
    if drawn is None:
        return {}
    votes = {} if alone is None else {"votes_alone": alone.votes, "right_alone": alone.right}
    return {"document": id_of_blob(drawn.document), "level": drawn.level, **votes}


def _question_columns(log: Log, blob: BlobHash) -> dict[str, Any]:
    question = read_question(log, blob)
    return {"question": question.id, **dict(question)}


def texts(log: Log, run: str, until: int) -> Iterator[TextRow]:
    """Every given text; LogCorrupt if a blob is missing or damaged."""
    iterations: dict[str, int] = {}
    for event in _events(log, until, ("episode_started", "text_given")):
        match event.fact:
            case EpisodeStarted(iteration=iteration):
                iterations[event.stream] = iteration
            case TextGiven() as fact:
                arrays = unpack_rollouts(log.get(fact.tokens))
                yield TextRow(
                    run=run,
                    position=event.position,
                    stream=event.stream,
                    version=event.version,
                    iteration=iterations.get(event.stream),
                    question=fact.question,
                    prompt=log.get(fact.prompt).decode("utf-8", "surrogatepass"),
                    completion=log.get(fact.text).decode("utf-8", "surrogatepass"),
                    certain=fact.certain,
                    prompt_ids=arrays.prompt,
                    completion_ids=arrays.ids[0],
                    learned=arrays.sampled[0],
                )


def updates(log: Log, run: str, until: int) -> Iterator[UpdateRow]:
    """Every update of a policy."""
    for event in _events(log, until, ("policy_updated",)):
        fact = event.fact
        assert isinstance(fact, PolicyUpdated)
        figures = {"groups", "silent_groups", "samples", "tokens", "reward"}
        yield UpdateRow(
            run=run,
            position=event.position,
            stream=event.stream,
            sample_digest=fact.samples,
            groups=sum(step.groups for step in fact.steps),
            silent_groups=sum(step.silent_groups for step in fact.steps),
            samples=sum(step.samples for step in fact.steps),
            tokens=sum(step.tokens for step in fact.steps),
            reward=mean_reward(fact),
            metrics={
                f"{step.phase}/{name}": value
                for step in fact.steps
                for name, value in [*step.model_dump(include=figures).items(), *step.metrics.items()]
            },
            **fact.model_dump(
                include={"policy", "iteration", "parent", "digest", "after", "until", "step", "advantage_estimator", "set"}
            ),
        )


def trials(log: Log, run: str, until: int) -> Iterator[TrialRow]:
    """Every trial whose student answered goalposts."""
    events = list(_events(log, until, ("trial_examined", "student_promoted")))
    promotions = [event.fact for event in events if isinstance(event.fact, StudentPromoted)]
    promoted = {(fact.iteration, fact.set, fact.student) for fact in promotions}
    for event in events:
        if isinstance(event.fact, TrialExamined):
            columns = event.fact.model_dump(exclude={"kind"})
            wins = (event.fact.iteration, event.fact.set, event.fact.student) in promoted
            place = {"run": run, "position": event.position, "stream": event.stream}
            yield TrialRow(**place, **columns, gain=event.fact.gain, promoted=wins)


def gaps(log: Log, run: str, until: int) -> Iterator[GapRow]:
    """Every measure of a goalpost's gap."""
    goalposts: set[QuestionId] = set()
    student: Digest | None = None
    iteration = 0
    for event in _events(log, until, _GAPS):
        columns = {"run": run, "position": event.position, "stream": event.stream}
        match event.fact:
            case GoalpostAdded(question=question):
                goalposts.add(question)
            case IterationStarted() as fact:
                student, iteration = fact.policies["student"], fact.iteration
            case GapMeasured() as fact:
                yield GapRow(**columns, iteration=iteration, policy=student, **fact.model_dump(exclude={"kind"}))
            case EvaluationFinished() as fact:
                measure = fact.model_dump(include={"iteration", "policy", "attempts"})
                for question, successes in fact.successes.items():
                    if question in goalposts:
                        gap = 1 - successes / fact.attempts
                        yield GapRow(**columns, **measure, question=question, successes=successes, gap=gap)


TABLES: dict[str, ExportTable] = {
    "attempts": ExportTable(AttemptRow, attempts),
    "questions": ExportTable(QuestionRow, questions),
    "texts": ExportTable(TextRow, texts),
    "updates": ExportTable(UpdateRow, updates),
    "trials": ExportTable(TrialRow, trials),
    "gaps": ExportTable(GapRow, gaps),
}
"""Every table, by name."""


def table_rows(table: str, log: Log, run: str, until: int) -> Iterator[dict[str, Any]]:
    """Rows of a table, each a dictionary by column, from events up to position `until`; shows progress."""
    with progress(f"exporting {table}") as on_progress:
        for row in TABLES[table].rows(log, run, until):
            on_progress(row.position, until)
            yield row.columns()


def written_sentence(counts: dict[str, int], out: object) -> str:
    """Counts of rows by table, as a phrase."""
    return f"{', '.join(f'{count} {table}' for table, count in counts.items())} into {out}"


def _ending(event: Event) -> str | None:
    if isinstance(event.fact, EpisodeFinished):
        return event.fact.reason
    return "failed" if isinstance(event.fact, EpisodeFailed) else None


def _events(log: Log, until: int, kinds: Collection[str]) -> Iterator[Event]:
    return takewhile(lambda event: event.position <= until, log.read(kinds=kinds))
