"""The nodes: ask a role, return the facts. `recorded` makes them real.

Law: a node writes nothing but blobs and does not decide where to go; its facts follow from the episode's state and seed, and
from what roles answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime

from events.facts.types import (
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
from events.facts.values import BlobHash, Generation, Phase, Question, Seat, Task, Verdict
from events.text.safe_text import one_line
from graph.play.context import NodeContext
from graph.play.edges import questions_to_solve
from graph.play.recorded import observe, recorded
from graph.play.state import (
    EpisodeState,
    PendingAttempts,
    PlayState,
    fold_episode,
    pass_rate_task,
    training_task,
    trains_on_pass_rate_attempts,
)
from graph.settings.seeds import derive_seed, rng
from roles.generation_record import get_question, put_question, texts
from roles.verifier import JudgedAttempts, RejectedProposal

PHASE: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift", "open": "open"}


@recorded("episode", fold_episode)
async def goalpost_gap(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
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


@recorded("episode", fold_episode)
async def teacher_easy(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The easy seat writes a lemma for the goalpost."""
    table, episode = runtime.context, state["episode"]
    goalpost = get_question(table.log, episode.question)
    return [_proposed(episode, "easy", goalpost, await table.teacher.lemma(goalpost, episode.axis, _seed(episode, "easy")))]


@recorded("episode", fold_episode)
async def teacher_hard(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The hard seat writes a lift of the lemma; it sees the goalpost only if the course is aimed."""
    table, episode = runtime.context, state["episode"]
    lemma = get_question(table.log, episode.accepted[0].question)
    goalpost = get_question(table.log, episode.question) if table.recipe.course.aimed else None
    return [_proposed(episode, "hard", lemma, await table.teacher.lift(lemma, episode.axis, _seed(episode, "hard"), goalpost))]


@recorded("episode", fold_episode)
async def teacher_open(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The open seat writes a question for one of the three tasks, with an eye on the references."""
    table, episode = runtime.context, state["episode"]
    references = [get_question(table.log, blob) for blob in episode.references]
    task = _drawn(table, episode, "open")
    return [_proposed(episode, "open", references[0], await table.teacher.open(references, task, _seed(episode, "open")))]


def _drawn(table: NodeContext, episode: EpisodeState, seat: Seat) -> Task:
    return training_task(episode.seed, seat, table.play.tasks)


def _seed(episode: EpisodeState, seat: Seat) -> int:
    """The seed of a seat's next proposal."""
    return derive_seed(episode.seed, seat, episode.proposals.get(seat, 0) + 1)


def _proposed(episode: EpisodeState, seat: Seat, parent: Question, generation: Generation) -> QuestionProposed:
    attempt = episode.proposals.get(seat, 0) + 1
    return QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)


@recorded("episode", fold_episode)
async def solver(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The student answers whatever is to be answered next."""
    table, episode = runtime.context, state["episode"]
    if not episode.attempted and episode.purpose != "unguided":
        own: Purpose = "gap" if episode.purpose == "guided" else "practice"
        count = table.play.gap_attempts if own == "gap" else table.play.practice_attempts
        return [await _answer(table, episode, own, episode.question, "induction", count=count)]
    if episode.candidate is not None:
        task = pass_rate_task(episode.seed, episode.seat, table.play.tasks)
        return [await _answer(table, episode, "pass_rate", episode.candidate, task, count=table.play.attempts)]
    count = table.play.solve_attempts
    return [
        await _answer(table, episode, "solve", item.question, _drawn(table, episode, item.seat), count=count)
        for item in questions_to_solve(episode, table.recipe.course, table.play.tasks)
    ]


async def _answer(
    table: NodeContext, episode: EpisodeState, purpose: Purpose, blob: BlobHash, task: Task, *, count: int
) -> AttemptsMade:
    question = get_question(table.log, blob)
    place = (purpose, task, question.id)
    pair = None if task == "induction" else rng(episode.seed, "pair", *place).randrange(len(question.pairs))
    generation = await table.solver.answer(
        question, task, pair, count=count, seed=derive_seed(episode.seed, *place), sampling=table.play.student
    )
    return AttemptsMade(purpose=purpose, question=question.id, task=task, pair=pair, generation=generation)


@recorded("episode", fold_episode)
async def verifier(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """Examine a proposal, or judge the attempts that wait."""
    table, episode = runtime.context, state["episode"]
    if episode.proposal is not None:
        return await _examined(table, episode, episode.proposal)
    return [fact for pending in episode.pending for fact in await _judged(table, episode, pending)]


async def _examined(table: NodeContext, episode: EpisodeState, version: int) -> list[Fact]:
    event = table.log.event(episode.stream, version)
    assert event is not None
    proposed = event.fact
    assert isinstance(proposed, QuestionProposed)
    seat = proposed.seat
    (text,) = texts(table.log, proposed.generation)
    found = await table.verifier.validate(text)
    if not isinstance(found, RejectedProposal):
        similarity = table.novelty.similarity(found.question)
        if similarity <= table.similarity or not table.recipe.course.rejection_sampling:
            return [
                QuestionValidated(
                    seat=seat,
                    question=found.question.id,
                    blob=put_question(table.log, found.question),
                    similarity=round(similarity, 6),
                    aligned=found.aligned,
                )
            ]
        found = RejectedProposal("not_novel", f"cosine similarity {similarity:.3f} to an accepted question", found.question)
    reward = table.recipe.rejection_reward(found.reason)
    return [
        QuestionRejected(
            seat=seat,
            reason=found.reason,
            detail=one_line(found.detail, 200),
            question=found.question.id if found.question else None,
            blob=put_question(table.log, found.question) if found.question else None,
        ),
        _teacher_reward(table, episode, seat, version, reward),
    ]


async def _judged(table: NodeContext, episode: EpisodeState, pending: PendingAttempts) -> list[Fact]:
    question = get_question(table.log, pending.question)
    event = table.log.event(episode.stream, pending.version)
    assert event is not None
    made = event.fact
    assert isinstance(made, AttemptsMade)
    judged = await table.verifier.judge(question, pending.task, pending.pair, texts(table.log, made.generation))
    verdicts = judged.verdicts
    observe("used", pending.version, judged.used)
    facts: list[Fact] = [
        AttemptsVerified(of=pending.version, verdicts=tuple(verdicts), provenance=table.verifier.provenance_of(question))
    ]
    match pending.purpose:
        case "pass_rate":
            facts += _banded(table, episode, pending, question, judged)
        case "solve" | "practice":
            phase: Phase = pending.purpose
            facts.append(_student_reward(table, pending, phase, verdicts))
        case "gap" | "evaluation":
            pass
    return facts


def _banded(
    table: NodeContext, episode: EpisodeState, pending: PendingAttempts, question: Question, judged: JudgedAttempts
) -> list[Fact]:
    """Pass rate, the teacher's reward, and acceptance; where these very attempts are learned from, the student's."""
    verdicts = judged.verdicts
    course, seat, successes = table.recipe.course, episode.seat, sum(verdict.outcome == "passed" for verdict in verdicts)
    place = table.recipe.place(seat, successes, len(verdicts))
    # Asked again here: a sibling may have been accepted with the same question since it was validated.
    novel = table.novelty.similarity(question) <= table.similarity or not course.rejection_sampling
    reason: Reason | None = "not_novel" if not novel else None if place == "in_band" or not course.rejection_sampling else place
    curve = table.recipe.teacher_reward(seat, successes, len(verdicts))
    reward = curve if novel else table.recipe.rejection_reward("not_novel")
    facts: list[Fact] = [
        PassRateMeasured(
            seat=seat, question=question.id, successes=successes, attempts=len(verdicts), agreeing=judged.agreeing
        ),
        _teacher_reward(table, episode, seat, episode.proposed, round(reward, 9)),
    ]
    if reason is not None:
        return [*facts, QuestionRejected(seat=seat, reason=reason, question=question.id, blob=pending.question)]
    # At once, so that no sibling is accepted with the same question before these facts are real.
    table.novelty.add(question)
    facts.append(QuestionAccepted(seat=seat, question=question.id, blob=pending.question, axis=episode.axis))
    if seat in course.taught and trains_on_pass_rate_attempts(episode.seed, seat, table.play.tasks):
        facts.append(_student_reward(table, pending, "solve", verdicts))
    return facts


def _teacher_reward(table: NodeContext, episode: EpisodeState, seat: Seat, of: int, reward: float) -> RewardGiven:
    """Of a proposal; open ones are grouped by the task that they are for."""
    task = _drawn(table, episode, seat) if seat == "open" else seat
    return RewardGiven(of=of, phase=PHASE[seat], role="teacher", task=task, rewards=(reward,))


def _student_reward(table: NodeContext, pending: PendingAttempts, phase: Phase, verdicts: Sequence[Verdict]) -> RewardGiven:
    rewards = tuple(table.recipe.student_reward(verdict, pending.task) for verdict in verdicts)
    return RewardGiven(of=pending.version, phase=phase, role="student", task=pending.task, rewards=rewards)
