"""The nodes: ask a role, return the facts. `recorded` makes them real.

Law: a node writes nothing but blobs and does not decide where to go; its facts follow from the episode's state and seed, and
from what roles answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime

from events.safe_text import one_line
from events.types import (
    AttemptsMade,
    AttemptsVerified,
    Fact,
    GapMeasured,
    PassRateMeasured,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
    RewardGiven,
)
from events.values import BlobHash, Phase, Question, Seat, Task, Verdict
from graph.edges import unsolved
from graph.recorded import observe, recorded
from graph.seeds import derive, rng
from graph.state import Episode, Pending, PlayState, drawn_task, fold
from graph.table import Table
from roles.record import get_question, put_question, texts
from roles.verifier import Rejected

PHASE: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift"}


@recorded("episode", fold)
async def goalpost_gap(state: PlayState, runtime: Runtime[Table]) -> list[Fact]:
    """Measure how far the student is from the goalpost; where to go follows from it."""
    table, episode = runtime.context, state["episode"]
    verified = [event.fact for event in table.log.read(episode.stream) if isinstance(event.fact, AttemptsVerified)]
    verdicts = verified[-1].verdicts
    successes = sum(verdict.outcome == "passed" for verdict in verdicts)
    return [
        GapMeasured(
            question=get_question(table.log, episode.question).id,
            successes=successes,
            attempts=len(verdicts),
            best_share=max(verdict.passed / verdict.total for verdict in verdicts),
            gap=1 - successes / len(verdicts),
        )
    ]


@recorded("episode", fold)
async def teacher_easy(state: PlayState, runtime: Runtime[Table]) -> list[Fact]:
    """The easy seat writes a lemma for the goalpost."""
    return await _propose(runtime.context, state["episode"], "easy", state["episode"].question)


@recorded("episode", fold)
async def teacher_hard(state: PlayState, runtime: Runtime[Table]) -> list[Fact]:
    """The hard seat writes a lift of the lemma; it never sees the goalpost."""
    return await _propose(runtime.context, state["episode"], "hard", state["episode"].accepted[0].question)


async def _propose(table: Table, episode: Episode, seat: Seat, parent_blob: BlobHash) -> list[Fact]:
    parent = get_question(table.log, parent_blob)
    attempt = episode.proposals.get(seat, 0) + 1
    generation = await table.teacher.propose(seat, episode.axis, parent, derive(episode.seed, seat, attempt))
    return [QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)]


@recorded("episode", fold)
async def solver(state: PlayState, runtime: Runtime[Table]) -> list[Fact]:
    """The student answers whatever is to be answered next."""
    table, episode = runtime.context, state["episode"]
    if not episode.attempted:
        own: Purpose = "gap" if episode.purpose == "guided" else "practice"
        count = table.play.attempts if own == "gap" else table.play.practice_attempts
        return [await _answer(table, episode, own, episode.question, "induction", count=count)]
    if episode.candidate is not None:
        return [await _answer(table, episode, "pass_rate", episode.candidate, "induction", count=table.play.attempts)]
    return [
        await _answer(table, episode, "solve", item.question, item.task, count=table.play.solve_attempts)
        for item in unsolved(episode, table.recipe.course)
    ]


async def _answer(table: Table, episode: Episode, purpose: Purpose, blob: BlobHash, task: Task, *, count: int) -> AttemptsMade:
    question = get_question(table.log, blob)
    place = (purpose, task, question.id)
    pair = None if task == "induction" else rng(episode.seed, "pair", *place).randrange(len(question.pairs))
    generation = await table.solver.answer(
        question, task, pair, count=count, seed=derive(episode.seed, *place), sampling=table.play.student
    )
    return AttemptsMade(purpose=purpose, question=question.id, task=task, pair=pair, generation=generation)


@recorded("episode", fold)
async def verifier(state: PlayState, runtime: Runtime[Table]) -> list[Fact]:
    """Examine a proposal, or judge the attempts that wait."""
    table, episode = runtime.context, state["episode"]
    if episode.proposal is not None:
        return await _examined(table, episode, episode.proposal)
    return [fact for pending in episode.pending for fact in await _judged(table, episode, pending)]


async def _examined(table: Table, episode: Episode, version: int) -> list[Fact]:
    (proposed,) = (event.fact for event in table.log.read(episode.stream) if event.version == version)
    assert isinstance(proposed, QuestionProposed)
    seat = proposed.seat
    (text,) = texts(table.log, proposed.generation)
    found = await table.verifier.examine(text)
    if not isinstance(found, Rejected):
        similarity = table.novelty.similarity(found.question)
        if similarity <= table.similarity or not table.recipe.course.selects:
            return [
                QuestionValidated(
                    seat=seat,
                    question=found.question.id,
                    blob=put_question(table.log, found.question),
                    similarity=round(similarity, 6),
                    aligned=found.aligned,
                )
            ]
        found = Rejected("not_novel", f"cosine similarity {similarity:.3f} to an accepted question", found.question)
    reward = table.recipe.rejection_reward(found.reason)
    return [
        QuestionRejected(
            seat=seat,
            reason=found.reason,
            detail=one_line(found.detail, 200),
            question=found.question.id if found.question else None,
            blob=put_question(table.log, found.question) if found.question else None,
        ),
        RewardGiven(of=version, phase=PHASE[seat], role="teacher", task=seat, rewards=(reward,)),
    ]


async def _judged(table: Table, episode: Episode, pending: Pending) -> list[Fact]:
    question = get_question(table.log, pending.question)
    (made,) = (event.fact for event in table.log.read(episode.stream) if event.version == pending.version)
    assert isinstance(made, AttemptsMade)
    verdicts, used = await table.verifier.judge(question, pending.task, pending.pair, texts(table.log, made.generation))
    observe("used", pending.version, used)
    facts: list[Fact] = [AttemptsVerified(of=pending.version, verdicts=tuple(verdicts), provenance=table.verifier.provenance)]
    match pending.purpose:
        case "pass_rate":
            facts += _banded(table, episode, pending, question, verdicts)
        case "solve" | "practice":
            phase: Phase = pending.purpose
            facts.append(_student_reward(table, pending, phase, verdicts))
        case "gap" | "evaluation":
            pass
    return facts


def _banded(table: Table, episode: Episode, pending: Pending, question: Question, verdicts: Sequence[Verdict]) -> list[Fact]:
    """Pass rate, the teacher's reward, and acceptance; an accepted question kept as induction is learned from at once."""
    course, seat, successes = table.recipe.course, episode.seat, sum(verdict.outcome == "passed" for verdict in verdicts)
    place = table.recipe.place(seat, successes, len(verdicts))
    # Asked again here: a sibling may have been accepted with the same question since it was validated.
    novel = table.novelty.similarity(question) <= table.similarity or not course.selects
    reason: Reason | None = "not_novel" if not novel else None if place == "in_band" or not course.selects else place
    curve = table.recipe.teacher_reward(seat, successes, len(verdicts))
    reward = curve if novel else table.recipe.rejection_reward("not_novel")
    facts: list[Fact] = [
        PassRateMeasured(seat=seat, question=question.id, successes=successes, attempts=len(verdicts)),
        RewardGiven(of=episode.proposed, phase=PHASE[seat], role="teacher", task=seat, rewards=(round(reward, 9),)),
    ]
    if reason is not None:
        return [*facts, QuestionRejected(seat=seat, reason=reason, question=question.id, blob=pending.question)]
    # At once, so that no sibling is accepted with the same question before these facts are real.
    table.novelty.add(question)
    facts.append(QuestionAccepted(seat=seat, question=question.id, blob=pending.question, axis=episode.axis))
    if seat in course.taught and drawn_task(episode.seed, seat) == "induction":
        facts.append(_student_reward(table, pending, "solve", verdicts))
    return facts


def _student_reward(table: Table, pending: Pending, phase: Phase, verdicts: Sequence[Verdict]) -> RewardGiven:
    rewards = tuple(table.recipe.student_reward(verdict, pending.task) for verdict in verdicts)
    return RewardGiven(of=pending.version, phase=phase, role="student", task=pending.task, rewards=rewards)
