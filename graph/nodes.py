"""The nodes: ask a role, append the facts, return the folded state.

Law: a node's work becomes real by its one append, at the version that its state expects; so every transition is in the log
exactly once, and a node that a crash broke off has done nothing. Nodes do not decide where to go.
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
    Phase,
    Purpose,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
    RewardGiven,
)
from events.values import BlobHash, Question, Seat, Task, Verdict
from graph.seeds import derive, rng
from graph.state import Episode, Pending, PlayState, drawn_task, fold
from graph.table import Table
from roles.record import get_question, put_question, texts
from roles.verifier import Rejected

PHASE: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift"}


def advance(table: Table, episode: Episode, facts: Sequence[Fact]) -> PlayState:
    """Make the facts real and fold them."""
    events = table.log.append(episode.stream, facts, expected=episode.version, causation=episode.version)
    return {"episode": fold(episode, events)}


async def goalpost_gap(state: PlayState, runtime: Runtime[Table]) -> PlayState:
    """Measure how far the student is from the goalpost; where to go follows from it."""
    table, episode = runtime.context, state["episode"]
    verified = [event.fact for event in table.log.read(episode.stream) if isinstance(event.fact, AttemptsVerified)]
    verdicts = verified[-1].verdicts
    successes = sum(verdict.outcome == "passed" for verdict in verdicts)
    fact = GapMeasured(
        question=get_question(table.log, episode.question).id,
        successes=successes,
        attempts=len(verdicts),
        best_share=max(verdict.passed / verdict.total for verdict in verdicts),
        gap=1 - successes / len(verdicts),
    )
    return advance(table, episode, [fact])


async def teacher_easy(state: PlayState, runtime: Runtime[Table]) -> PlayState:
    """The easy seat writes a lemma for the goalpost."""
    return await _propose(runtime.context, state["episode"], "easy", state["episode"].question)


async def teacher_hard(state: PlayState, runtime: Runtime[Table]) -> PlayState:
    """The hard seat writes a lift of the lemma; it never sees the goalpost."""
    return await _propose(runtime.context, state["episode"], "hard", state["episode"].accepted[0].question)


async def _propose(table: Table, episode: Episode, seat: Seat, parent_blob: BlobHash) -> PlayState:
    parent = get_question(table.log, parent_blob)
    attempt = episode.proposals.get(seat, 0) + 1
    generation = await table.teacher.propose(seat, episode.axis, parent, derive(episode.seed, seat, attempt))
    return advance(table, episode, [QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)])


async def solver(state: PlayState, runtime: Runtime[Table]) -> PlayState:
    """The student answers whatever is to be answered next."""
    table, episode = runtime.context, state["episode"]
    if not episode.attempted:
        own: Purpose = "gap" if episode.purpose == "guided" else "practice"
        count = table.play.attempts if own == "gap" else table.play.practice_attempts
        return advance(table, episode, [await _answer(table, episode, own, episode.question, "induction", count=count)])
    if episode.candidate is not None:
        made = await _answer(table, episode, "pass_rate", episode.candidate, "induction", count=table.play.attempts)
        return advance(table, episode, [made])
    facts = [
        await _answer(table, episode, "solve", item.question, item.task, count=table.play.solve_attempts)
        for item in episode.unsolved
    ]
    return advance(table, episode, facts)


async def _answer(table: Table, episode: Episode, purpose: Purpose, blob: BlobHash, task: Task, *, count: int) -> AttemptsMade:
    question = get_question(table.log, blob)
    place = (purpose, task, question.id)
    pair = None if task == "induction" else rng(episode.seed, "pair", *place).randrange(len(question.pairs))
    generation = await table.solver.answer(
        question, task, pair, count=count, seed=derive(episode.seed, *place), sampling=table.play.student
    )
    return AttemptsMade(purpose=purpose, question=question.id, task=task, pair=pair, generation=generation)


async def verifier(state: PlayState, runtime: Runtime[Table]) -> PlayState:
    """Examine a proposal, or judge the attempts that wait."""
    table, episode = runtime.context, state["episode"]
    if episode.proposal is not None:
        return advance(table, episode, await _examined(table, episode, episode.proposal))
    facts: list[Fact] = []
    for pending in episode.pending:
        facts += await _judged(table, episode, pending)
    played = advance(table, episode, facts)
    table.novelty.add(*(get_question(table.log, fact.blob) for fact in facts if isinstance(fact, QuestionAccepted)))
    return played


async def _examined(table: Table, episode: Episode, version: int) -> list[Fact]:
    (proposed,) = (event.fact for event in table.log.read(episode.stream) if event.version == version)
    assert isinstance(proposed, QuestionProposed)
    seat = proposed.seat
    (text,) = texts(table.log, proposed.generation)
    found = await table.verifier.examine(text)
    if not isinstance(found, Rejected):
        similarity = table.novelty.similarity(found.question)
        if similarity <= table.similarity:
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
    verdicts = await table.verifier.judge(question, pending.task, pending.pair, texts(table.log, made.generation))
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
    seat, successes = episode.seat, sum(verdict.outcome == "passed" for verdict in verdicts)
    place = table.recipe.place(seat, successes, len(verdicts))
    # Asked again here: a sibling may have been accepted with the same question since it was validated.
    novel = table.novelty.similarity(question) <= table.similarity
    reason: Reason | None = "not_novel" if not novel else None if place == "in_band" else place
    curve = table.recipe.teacher_reward(seat, successes, len(verdicts))
    reward = curve if novel else table.recipe.rejection_reward("not_novel")
    facts: list[Fact] = [
        PassRateMeasured(seat=seat, question=question.id, successes=successes, attempts=len(verdicts)),
        RewardGiven(of=episode.proposed, phase=PHASE[seat], role="teacher", task=seat, rewards=(round(reward, 9),)),
    ]
    if reason is not None:
        return [*facts, QuestionRejected(seat=seat, reason=reason, question=question.id, blob=pending.question)]
    facts.append(QuestionAccepted(seat=seat, question=question.id, blob=pending.question, axis=episode.axis))
    if drawn_task(episode.seed, seat) == "induction":
        facts.append(_student_reward(table, pending, "solve", verdicts))
    return facts


def _student_reward(table: Table, pending: Pending, phase: Phase, verdicts: Sequence[Verdict]) -> RewardGiven:
    rewards = tuple(table.recipe.student_reward(verdict, pending.task) for verdict in verdicts)
    return RewardGiven(of=pending.version, phase=phase, role="student", task=pending.task, rewards=rewards)
