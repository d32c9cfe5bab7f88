"""The nodes of an episode: each asks a role and returns facts, which `recorded` appends.

Guarantees: facts depend only on the episode's state, its seed, the roles' answers and, for novelty, on the questions that were
accepted before.
Not responsible for: where the episode goes next (`graph.play.edges`), and what the verifier's answers lead to
(`graph.play.verification`).
"""

from __future__ import annotations

from langgraph.runtime import Runtime

from events.facts.fact import Fact
from events.facts.log import read_facts
from events.facts.questions import read_question
from events.facts.types import AttemptsMade, AttemptsVerified, GapMeasured, Purpose, QuestionProposed
from events.facts.values import BlobHash, Generation, Question, Seat, Task, count_passed
from graph.play.context import NodeContext
from graph.play.edges import questions_to_solve
from graph.play.recorded import recorded
from graph.play.state import EpisodeState, PlayState, fold_episode, pass_rate_task, training_task
from graph.play.verification import judge, validate
from graph.recipes.recipe import Survey
from graph.settings.seeds import derive_seed, seeded_rng


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
    proposal = await context.teacher.lemma(goalpost, episode.axis, _seed(episode, "easy"))
    return [_proposed(episode, "easy", goalpost, proposal)]


@recorded("episode", fold_episode)
async def teacher_hard(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The hard seat writes a lift of the lemma; it sees the goalpost only if the plan says so."""
    context, episode = runtime.context, state["episode"]
    lemma = read_question(context.log, episode.accepted[0].question)
    sees_goalpost = context.plan(episode.iteration).hard_seat_sees_goalpost
    goalpost = read_question(context.log, episode.question) if sees_goalpost else None
    proposal = await context.teacher.lift(lemma, episode.axis, _seed(episode, "hard"), goalpost)
    return [_proposed(episode, "hard", lemma, proposal)]


@recorded("episode", fold_episode)
async def teacher_open(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The open seat writes a question about its document or topic, or one for one of the three tasks, unlike the references."""
    context, episode = runtime.context, state["episode"]
    seed = _seed(episode, "open")
    if episode.document is not None and episode.level is not None:
        parent = read_question(context.log, episode.document)
        proposal = await context.teacher.about_document(parent, episode.level, seed)
    elif episode.topic:
        parent = read_question(context.log, episode.question)
        proposal = await context.teacher.on_topic(episode.topic, parent, seed)
    else:
        parent, *others = (read_question(context.log, blob) for blob in episode.references)
        task = training_task(episode.seed, "open", context.play.tasks)
        proposal = await context.teacher.open([parent, *others], task, seed)
    return [_proposed(episode, "open", parent, proposal)]


def _seed(episode: EpisodeState, seat: Seat) -> int:
    return derive_seed(episode.seed, seat, episode.proposals.get(seat, 0) + 1)


def _proposed(episode: EpisodeState, seat: Seat, parent: Question, generation: Generation) -> QuestionProposed:
    attempt = episode.proposals.get(seat, 0) + 1
    return QuestionProposed(seat=seat, attempt=attempt, parent=parent.id, generation=generation)


@recorded("episode", fold_episode)
async def solver(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """The student answers what is to be answered next: the episode's question, a candidate, or accepted questions."""
    context, episode = runtime.context, state["episode"]
    play, plan = context.play, context.plan(episode.iteration)
    if not episode.attempted and episode.purpose != "unguided":
        purpose: Purpose = "gap" if episode.purpose == "guided" else "practice"
        count = play.gap_attempts if purpose == "gap" else play.practice_attempts
        survey = plan.survey if purpose == "practice" else None
        return [
            *await _label_attempts(context, episode, episode.question),
            await _attempt(context, episode, purpose, episode.question, "induction", count=count, survey=survey),
        ]
    if episode.candidate is not None:
        task = pass_rate_task(episode.seed, episode.seat, play.tasks)
        return [
            *await _label_attempts(context, episode, episode.candidate),
            await _attempt(context, episode, "pass_rate", episode.candidate, task, count=play.attempts),
        ]
    made: list[Fact] = []
    for accepted in questions_to_solve(episode, plan, play.tasks):
        task = training_task(episode.seed, accepted.seat, play.tasks)
        made.append(await _attempt(context, episode, "solve", accepted.question, task, count=play.solve_attempts))
    return made


async def _label_attempts(context: NodeContext, episode: EpisodeState, blob: BlobHash) -> list[AttemptsMade]:
    """The attempts that see the document, where they label the others."""
    if context.plan(episode.iteration).labels != "informed":
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
    question, plan = read_question(context.log, blob), context.plan(episode.iteration)
    key, sampling = (purpose, task, question.id), context.play.student.sampling
    pair = None if task == "induction" else seeded_rng(episode.seed, "pair", *key).randrange(len(question.pairs))
    generation = await context.solver.answer(
        question,
        task,
        pair,
        count=survey.attempts if survey else count,
        seed=derive_seed(episode.seed, *key),
        sampling=sampling.model_copy(update={"temperature": survey.temperature}) if survey else sampling,
        hides_pairs=(purpose == "pass_rate" or episode.document is not None) and plan.labels != "question",
        document=read_question(context.log, episode.document) if purpose == "label" and episode.document else None,
    )
    return AttemptsMade(purpose=purpose, question=question.id, task=task, pair=pair, generation=generation)


@recorded("episode", fold_episode)
async def verifier(state: PlayState, runtime: Runtime[NodeContext]) -> list[Fact]:
    """Validate a proposal, or judge the attempts that wait."""
    context, episode = runtime.context, state["episode"]
    if episode.proposal is not None:
        return await validate(context, episode, episode.proposal)
    return await judge(context, episode)
