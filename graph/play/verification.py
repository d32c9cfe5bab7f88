"""What the verifier node returns: whether a proposal is accepted, the verdicts on attempts, and the rewards that follow.

Not responsible for: running programs and comparing outputs (`roles.verifier`), bands and amounts (the recipe).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from events.facts.fact import Fact
from events.facts.label_facts import LabelVoted
from events.facts.log import Log
from events.facts.questions import read_question
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
    PassRateMeasured,
    QuestionAccepted,
    QuestionProposed,
    QuestionRejected,
    QuestionValidated,
    Reason,
    RewardGiven,
)
from events.facts.values import BlobHash, LabelSource, Phase, Question, Seat, Verdict, count_passed
from events.text.safe_text import one_line
from graph.play.context import NodeContext
from graph.play.document_objection import document_objection
from graph.play.recorded import observe
from graph.play.state import EpisodeState, PendingAttempts, training_task, trains_on_pass_rate_attempts
from roles.generation_record import completion_texts, put_question
from roles.judging.proposal_validator import RejectedProposal
from roles.judging.vote import Outputs, equal_outputs
from roles.verifier import JudgedAttempts, LabelledAttempts

PHASE: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift", "open": "open"}


async def validate(context: NodeContext, episode: EpisodeState, version: int) -> list[Fact]:
    """The proposal at this version of the episode's stream is validated, or rejected and rewarded for that."""
    event = context.log.event(episode.stream, version)
    assert event is not None
    assert isinstance(event.fact, QuestionProposed)
    plan, seat = context.plan(episode.iteration), event.fact.seat
    (text,) = completion_texts(context.log, event.fact.generation)
    result = await context.verifier.validate(text)
    if not isinstance(result, RejectedProposal):
        result = document_objection(context, episode, result.question) or result
    if not isinstance(result, RejectedProposal):
        similarity, repeated = context.novelty.similarity(result.question), context.novelty.has_program(result.question)
        if (similarity <= context.similarity and not repeated) or not plan.rejection_sampling:
            question, blob = result.question.id, put_question(context.log, result.question)
            validated = QuestionValidated(
                seat=seat, question=question, blob=blob, similarity=round(similarity, 6), aligned=result.aligned
            )
            if plan.pools is None:
                return [validated]
            return [validated, QuestionAccepted(seat=seat, question=question, blob=blob, axis=episode.axis)]
        program = ", which has the same program but for names" if repeated else ""
        detail = f"cosine similarity {similarity:.3f} to an accepted question{program}"
        result = RejectedProposal("not_novel", detail, result.question)
    reward = None if plan.pools else context.recipe.rejection_reward(result.reason)
    return [
        QuestionRejected(
            seat=seat,
            reason=result.reason,
            detail=one_line(result.detail, 200),
            question=result.question.id if result.question else None,
            blob=put_question(context.log, result.question) if result.question else None,
        ),
        *_teacher_reward(context, episode, seat, version, reward),
    ]


async def judge(context: NodeContext, episode: EpisodeState) -> list[Fact]:
    """The verdicts on the attempts that wait, and what follows from them."""
    if context.plan(episode.iteration).labels == "informed":
        return await _judge_informed(context, episode)
    return [fact for pending in episode.pending for fact in await _judge(context, episode, pending)]


async def _judge(context: NodeContext, episode: EpisodeState, pending: PendingAttempts) -> list[Fact]:
    plan, question = context.plan(episode.iteration), read_question(context.log, pending.question)
    texts = _texts(context, episode, pending)
    if pending.purpose == "pass_rate" and plan.labels != "question":
        return await _judge_by_label(context, episode, pending, question, texts)
    judged = await context.verifier.judge(question, pending.task, pending.pair, texts)
    verdicts = judged.verdicts
    observe("used", pending.version, judged.usage)
    facts: list[Fact] = [
        AttemptsVerified(of=pending.version, verdicts=tuple(verdicts), provenance=context.verifier.provenance_of(question))
    ]
    match pending.purpose:
        case "pass_rate":
            facts += _measure(context, episode, pending, question, judged)
        case "practice" if plan.survey is not None:
            pass
        case "solve" | "practice":
            facts.append(_student_reward(context, episode, pending, pending.purpose, verdicts))
        case "gap" | "evaluation":
            pass
    return facts


def _texts(context: NodeContext, episode: EpisodeState, pending: PendingAttempts) -> list[str]:
    event = context.log.event(episode.stream, pending.version)
    assert event is not None
    assert isinstance(event.fact, AttemptsMade)
    return completion_texts(context.log, event.fact.generation)


async def _judge_by_label(
    context: NodeContext, episode: EpisodeState, pending: PendingAttempts, question: Question, texts: Sequence[str]
) -> list[Fact]:
    """Judge answers to a proposed question by what most of them give, or by the truth, whatever its program gives."""
    labels = context.plan(episode.iteration).labels
    assert labels in ("vote", "truth")
    labelled = await context.verifier.judge_by_label(question, texts, labels, context.ties)
    label = labelled.vote.label if labels == "vote" else labelled.truth
    return [
        *_label_facts(context, episode, pending, question, labels, labelled),
        *_measure(context, episode, pending, question, labelled.judged, student_learns=label is not None),
    ]


async def _judge_informed(context: NodeContext, episode: EpisodeState) -> list[Fact]:
    """Judge answers without the document by what most of those with it give, whatever the question's program gives."""
    voting, pending = episode.pending
    question, by_label = read_question(context.log, pending.question), context.verifier.judge_by_label
    texts = [_texts(context, episode, each) for each in (voting, pending)]
    informed = await by_label(question, texts[0], "vote", context.ties)
    vote = informed.vote
    alone = await by_label(question, texts[1], "informed", context.ties, label=vote.label)
    facts = [
        *_label_facts(context, episode, voting, question, "vote", informed, informed=True),
        *_label_facts(context, episode, pending, question, "informed", alone, informed=False),
    ]
    if pending.purpose == "pass_rate":
        rewarded = vote.label is not None
        return [*facts, *_measure(context, episode, pending, question, alone.judged, teacher_rewarded=rewarded)]
    if vote.label is not None and vote.votes >= context.documents.share * vote.attempts:
        facts.append(_student_reward(context, episode, pending, "practice", alone.judged.verdicts))
    return facts


def _label_facts(
    context: NodeContext,
    episode: EpisodeState,
    pending: PendingAttempts,
    question: Question,
    labels: LabelSource,
    labelled: LabelledAttempts,
    *,
    informed: bool | None = None,
) -> list[Fact]:
    """The verdicts by a label, and the vote of the same answers."""
    judged, vote, truth = labelled
    observe("used", pending.version, judged.usage)
    provenance = context.verifier.provenance_of(question, labels)
    return [
        AttemptsVerified(of=pending.version, verdicts=tuple(judged.verdicts), provenance=provenance),
        LabelVoted(
            of=pending.version,
            seat="open" if episode.purpose == "practice" else episode.seat,
            question=question.id,
            attempts=vote.attempts,
            voters=vote.voters,
            votes=vote.votes,
            runner_up=vote.runner_up,
            label=_put_outputs(context.log, vote.label),
            agrees=equal_outputs(vote.label, tuple(pair.output for pair in question.pairs)) if vote.label else None,
            right=labelled.right,
            truth=_put_outputs(context.log, truth),
            informed=informed,
        ),
    ]


def _put_outputs(log: Log, outputs: Outputs | None) -> BlobHash | None:
    return None if outputs is None else log.put(json.dumps(outputs, separators=(",", ":")).encode())


def _measure(
    context: NodeContext,
    episode: EpisodeState,
    pending: PendingAttempts,
    question: Question,
    judged: JudgedAttempts,
    *,
    student_learns: bool = True,
    teacher_rewarded: bool = True,
) -> list[Fact]:
    """The pass rate of a question, whether it is accepted, and the rewards of teacher and student.

    `student_learns` and `teacher_rewarded`: False where there is no label to reward them by.
    """
    verdicts, recipe, seat, plan = judged.verdicts, context.recipe, episode.seat, context.plan(episode.iteration)
    successes, attempts = count_passed(verdicts), len(verdicts)
    band = recipe.band(seat, successes, attempts)
    reward: float | None = round(recipe.teacher_reward(seat, successes, attempts, episode.level), 9)
    rejected: Reason | None = band if plan.rejection_sampling and band != "in_band" else None
    # Checked again: another episode may have had the same question accepted since this one was validated.
    if plan.rejection_sampling and not context.novelty.is_novel(question, context.similarity):
        rejected, reward = "not_novel", recipe.rejection_reward("not_novel")
    facts: list[Fact] = [
        PassRateMeasured(seat=seat, question=question.id, successes=successes, attempts=attempts, agreeing=judged.agreeing),
        *_teacher_reward(context, episode, seat, episode.proposed, reward if teacher_rewarded else None),
    ]
    if rejected is not None:
        return [*facts, QuestionRejected(seat=seat, reason=rejected, question=question.id, blob=pending.question)]
    # At once, so that no other episode has the same question accepted before these facts are appended.
    context.novelty.add(question)
    facts.append(QuestionAccepted(seat=seat, question=question.id, blob=pending.question, axis=episode.axis))
    trains = seat in plan.student_trains_on and trains_on_pass_rate_attempts(episode.seed, seat, context.play.tasks)
    if student_learns and trains:
        facts.append(_student_reward(context, episode, pending, "solve", verdicts))
    return facts


def _teacher_reward(context: NodeContext, episode: EpisodeState, seat: Seat, of: int, reward: float | None) -> list[Fact]:
    """The reward of the proposal at version `of`; none where it is masked, or given later for what its set gained."""
    trials = context.plan(episode.iteration).trials
    return [] if reward is None or (trials and trials.reward_gain) else [teacher_reward(context, episode, seat, of, reward)]


def teacher_reward(context: NodeContext, episode: EpisodeState, seat: Seat, of: int, reward: float) -> RewardGiven:
    """The reward of a proposal; those of the open seat are grouped by the task that they are for."""
    task = training_task(episode.seed, seat, context.play.tasks) if seat == "open" else seat
    return RewardGiven(of=of, phase=PHASE[seat], role="teacher", task=task, rewards=(reward,), set=episode.set)


def _student_reward(
    context: NodeContext, episode: EpisodeState, pending: PendingAttempts, phase: Phase, verdicts: Sequence[Verdict]
) -> RewardGiven:
    rewards = tuple(context.recipe.student_reward(verdict, pending.task) for verdict in verdicts)
    return RewardGiven(of=pending.version, phase=phase, role="student", task=pending.task, rewards=rewards, set=episode.set)
