"""The nodes: each asks a role and returns facts, which `recorded` appends.

Guarantees: facts depend only on the episode's state, its seed, the roles' answers and, for novelty, on the questions that were
accepted before.
Not responsible for: where the episode goes next (`graph.play.edges`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from langgraph.runtime import Runtime

from events.facts.fact import Fact
from events.facts.label_facts import LabelVoted
from events.facts.log import Log, read_facts
from events.facts.questions import read_question
from events.facts.types import (
    AttemptsMade,
    AttemptsVerified,
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
from events.facts.values import BlobHash, Generation, LabelSource, Phase, Question, Seat, Task, Verdict, count_passed
from events.text.safe_text import one_line
from graph.play.context import NodeContext
from graph.play.document_objection import document_objection
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
from graph.recipes.recipe import EpisodePlan, Survey
from graph.settings.seeds import derive_seed, rng
from roles.generation_record import completion_texts, put_question
from roles.judging.vote import Outputs, equal_outputs
from roles.verifier import JudgedAttempts, LabelledAttempts, RejectedProposal

PHASE: dict[Seat, Phase] = {"easy": "lemma", "hard": "lift", "open": "open"}


@recorded("episode", fold_episode)
async def goalpost_gap(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """Measure the gap: how far the student is from the goalpost."""
    context, episode = runtime.context, state["episode"]
    *_, verified = read_facts(context.log, AttemptsVerified, episode.stream)
    verdicts = verified.verdicts
    successes = count_passed(verdicts)
    return [
        GapMeasured(
            question=read_question(context.log, episode.question).id,
            successes=successes,
            attempts=len(verdicts),
            best_share=max(verdict.passed / verdict.total for verdict in verdicts),
            gap=1 - successes / len(verdicts),
        )
    ]


@recorded("episode", fold_episode)
async def teacher_easy(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The easy seat writes a lemma for the goalpost."""
    context, episode = runtime.context, state["episode"]
    goalpost = read_question(context.log, episode.question)
    return [_proposed(episode, "easy", goalpost, await context.teacher.lemma(goalpost, episode.axis, _seed(episode, "easy")))]


@recorded("episode", fold_episode)
async def teacher_hard(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The hard seat writes a lift of the lemma; it sees the goalpost only if the plan says so."""
    context, episode = runtime.context, state["episode"]
    lemma = read_question(context.log, episode.accepted[0].question)
    goalpost = read_question(context.log, episode.question) if _plan(context, episode).hard_seat_sees_goalpost else None
    return [
        _proposed(episode, "hard", lemma, await context.teacher.lift(lemma, episode.axis, _seed(episode, "hard"), goalpost))
    ]


@recorded("episode", fold_episode)
async def teacher_open(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The open seat writes a question about its document or topic, or one for one of the three tasks, unlike the references."""
    context, episode = runtime.context, state["episode"]
    if episode.document is not None and episode.level is not None:
        document = read_question(context.log, episode.document)
        made = await context.teacher.about_document(document, episode.level, _seed(episode, "open"))
        return [_proposed(episode, "open", document, made)]
    if episode.topic:
        example = read_question(context.log, episode.question)
        return [
            _proposed(episode, "open", example, await context.teacher.on_topic(episode.topic, example, _seed(episode, "open")))
        ]
    references = [read_question(context.log, blob) for blob in episode.references]
    task = _training_task(context, episode, "open")
    return [_proposed(episode, "open", references[0], await context.teacher.open(references, task, _seed(episode, "open")))]


def _plan(context: NodeContext, episode: EpisodeState) -> EpisodePlan:
    """The stage of the episode's iteration."""
    return context.recipe.plan.at(episode.iteration)


def _training_task(context: NodeContext, episode: EpisodeState, seat: Seat) -> Task:
    return training_task(episode.seed, seat, context.play.tasks)


def _seed(episode: EpisodeState, seat: Seat) -> int:
    return derive_seed(episode.seed, seat, episode.proposals.get(seat, 0) + 1)


def _proposed(episode: EpisodeState, seat: Seat, parent: Question, generation: Generation) -> QuestionProposed:
    attempt = episode.proposals.get(seat, 0) + 1
    return QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)


@recorded("episode", fold_episode)
async def solver(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The student answers what is to be answered next: its own question, a candidate, or accepted questions."""
    context, episode = runtime.context, state["episode"]
    if not episode.attempted and episode.purpose != "unguided":
        purpose: Purpose = "gap" if episode.purpose == "guided" else "practice"
        count = context.play.gap_attempts if purpose == "gap" else context.play.practice_attempts
        survey = _plan(context, episode).survey if purpose == "practice" else None
        return [
            *await _label_attempts(context, episode, episode.question),
            await _attempt(context, episode, purpose, episode.question, "induction", count=count, survey=survey),
        ]
    if episode.candidate is not None:
        task = pass_rate_task(episode.seed, episode.seat, context.play.tasks)
        return [
            *await _label_attempts(context, episode, episode.candidate),
            await _attempt(context, episode, "pass_rate", episode.candidate, task, count=context.play.attempts),
        ]
    count = context.play.solve_attempts
    return [
        await _attempt(
            context, episode, "solve", accepted.question, _training_task(context, episode, accepted.seat), count=count
        )
        for accepted in questions_to_solve(episode, _plan(context, episode), context.play.tasks)
    ]


async def _label_attempts(context: NodeContext, episode: EpisodeState, blob: BlobHash) -> list[AttemptsMade]:
    """The attempts that see the document, where they label the others."""
    if _plan(context, episode).labels != "informed":
        return []
    return [await _attempt(context, episode, "label", blob, "induction", count=context.documents.attempts)]


async def _attempt(
    context: NodeContext,
    episode: EpisodeState,
    purpose: Purpose,
    blob: BlobHash,
    task: Task,
    *,
    count: int,
    survey: Survey | None = None,
) -> AttemptsMade:
    question = read_question(context.log, blob)
    key, sampling = (purpose, task, question.id), context.play.student.sampling
    pair = None if task == "induction" else rng(episode.seed, "pair", *key).randrange(len(question.pairs))
    generation = await context.solver.answer(
        question,
        task,
        pair,
        count=survey.attempts if survey else count,
        seed=derive_seed(episode.seed, *key),
        sampling=sampling.model_copy(update={"temperature": survey.temperature}) if survey else sampling,
        hides_pairs=(purpose == "pass_rate" or episode.document is not None) and _plan(context, episode).labels != "question",
        document=read_question(context.log, episode.document) if purpose == "label" and episode.document else None,
    )
    return AttemptsMade(purpose=purpose, question=question.id, task=task, pair=pair, generation=generation)


@recorded("episode", fold_episode)
async def verifier(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """Validate a proposal, or judge the attempts that wait."""
    context, episode = runtime.context, state["episode"]
    if episode.proposal is not None:
        return await _validate(context, episode, episode.proposal)
    if _plan(context, episode).labels == "informed":
        return await _judge_informed(context, episode)
    return [fact for pending in episode.pending for fact in await _judge(context, episode, pending)]


async def _validate(context: NodeContext, episode: EpisodeState, version: int) -> list[Fact]:
    event = context.log.event(episode.stream, version)
    assert event is not None
    proposed = event.fact
    assert isinstance(proposed, QuestionProposed)
    seat = proposed.seat
    (text,) = completion_texts(context.log, proposed.generation)
    result = await context.verifier.validate(text)
    if not isinstance(result, RejectedProposal):
        result = document_objection(context, episode, result.question) or result
    if not isinstance(result, RejectedProposal):
        similarity, repeated = context.novelty.similarity(result.question), context.novelty.has_program(result.question)
        if (similarity <= context.similarity and not repeated) or not _plan(context, episode).rejection_sampling:
            question, blob = result.question.id, put_question(context.log, result.question)
            validated = QuestionValidated(
                seat=seat, question=question, blob=blob, similarity=round(similarity, 6), aligned=result.aligned
            )
            if _plan(context, episode).pools is None:
                return [validated]
            return [validated, QuestionAccepted(seat=seat, question=question, blob=blob, axis=episode.axis)]
        program = ", which has the same program but for names" if repeated else ""
        detail = f"cosine similarity {similarity:.3f} to an accepted question{program}"
        result = RejectedProposal("not_novel", detail, result.question)
    reward = None if _plan(context, episode).pools else context.recipe.rejection_reward(result.reason)
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


async def _judge(context: NodeContext, episode: EpisodeState, pending: PendingAttempts) -> list[Fact]:
    question, texts = read_question(context.log, pending.question), _texts(context, episode, pending)
    if pending.purpose == "pass_rate" and _plan(context, episode).labels != "question":
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
        case "practice" if _plan(context, episode).survey is not None:
            pass
        case "solve" | "practice":
            phase: Phase = pending.purpose
            facts.append(_student_reward(context, episode, pending, phase, verdicts))
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
    labels = _plan(context, episode).labels
    assert labels in ("vote", "truth")
    labelled = await context.verifier.judge_by_label(question, texts, labels, context.ties)
    labelless = (labelled.vote.label if labels == "vote" else labelled.truth) is None
    return [
        *_label_facts(context, episode, pending, question, labels, labelled),
        *_measure(context, episode, pending, question, labelled.judged, teaches=not labelless),
    ]


async def _judge_informed(context: NodeContext, episode: EpisodeState) -> list[Fact]:
    """Judge answers without the document by what most of those with it give, whatever the question's program gives."""
    voting, pending = episode.pending
    question, judge = read_question(context.log, pending.question), context.verifier.judge_by_label
    texts = [_texts(context, episode, each) for each in (voting, pending)]
    informed = await judge(question, texts[0], "vote", context.ties)
    label, votes = informed.vote.label, informed.vote
    alone = await judge(question, texts[1], "informed", context.ties, label=label)
    facts = [
        *_label_facts(context, episode, voting, question, "vote", informed, informed=True),
        *_label_facts(context, episode, pending, question, "informed", alone, informed=False),
    ]
    if pending.purpose == "pass_rate":
        return [*facts, *_measure(context, episode, pending, question, alone.judged, earns=label is not None)]
    teaches = label is not None and votes.votes >= context.documents.share * votes.attempts
    return [*facts, *([_student_reward(context, episode, pending, "practice", alone.judged.verdicts)] if teaches else [])]


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
    teaches: bool = True,
    earns: bool = True,
) -> list[Fact]:
    """Pass rate, the teacher's reward, acceptance or rejection, and the student's reward if it learns from these attempts.

    `teaches`: whether the student may learn from them; `earns`: whether the teacher may be rewarded.
    """
    verdicts = judged.verdicts
    plan, seat, successes = _plan(context, episode), episode.seat, count_passed(verdicts)
    band = context.recipe.band(seat, successes, len(verdicts))
    # Checked again: another episode may have had the same question accepted since this one was validated.
    novel = context.novelty.is_novel(question, context.similarity) or not plan.rejection_sampling
    reason: Reason | None = "not_novel" if not novel else None if band == "in_band" or not plan.rejection_sampling else band
    if novel:
        reward: float | None = round(context.recipe.teacher_reward(seat, successes, len(verdicts), episode.level), 9)
    else:
        reward = context.recipe.rejection_reward("not_novel")
    facts: list[Fact] = [
        PassRateMeasured(
            seat=seat, question=question.id, successes=successes, attempts=len(verdicts), agreeing=judged.agreeing
        ),
        *_teacher_reward(context, episode, seat, episode.proposed, reward if earns else None),
    ]
    if reason is not None:
        return [*facts, QuestionRejected(seat=seat, reason=reason, question=question.id, blob=pending.question)]
    # At once, so that no other episode has the same question accepted before these facts are appended.
    context.novelty.add(question)
    facts.append(QuestionAccepted(seat=seat, question=question.id, blob=pending.question, axis=episode.axis))
    if teaches and seat in plan.student_trains_on and trains_on_pass_rate_attempts(episode.seed, seat, context.play.tasks):
        facts.append(_student_reward(context, episode, pending, "solve", verdicts))
    return facts


def _teacher_reward(context: NodeContext, episode: EpisodeState, seat: Seat, of: int, reward: float | None) -> list[Fact]:
    """The reward of a proposal, unless it is masked or comes later, with what its set gained."""
    trials = _plan(context, episode).trials
    return [] if reward is None or (trials and trials.reward_gain) else [teacher_reward(context, episode, seat, of, reward)]


def teacher_reward(context: NodeContext, episode: EpisodeState, seat: Seat, of: int, reward: float) -> RewardGiven:
    """The reward of a proposal; those of the open seat are grouped by the task that they are for."""
    task = _training_task(context, episode, seat) if seat == "open" else seat
    return RewardGiven(of=of, phase=PHASE[seat], role="teacher", task=task, rewards=(reward,), set=episode.set)


def _student_reward(
    context: NodeContext, episode: EpisodeState, pending: PendingAttempts, phase: Phase, verdicts: Sequence[Verdict]
) -> RewardGiven:
    rewards = tuple(context.recipe.student_reward(verdict, pending.task) for verdict in verdicts)
    return RewardGiven(of=pending.version, phase=phase, role="student", task=pending.task, rewards=rewards, set=episode.set)
