"""Samples the episodes of an iteration: which questions they start from, with which axis and seed.

Guarantees: the result depends only on the run's seed and on what earlier iterations left in the log, so a resumed run samples
the same episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from events.facts.drawn_facts import DocumentDrawn
from events.facts.log import Log
from events.facts.streams import episode_stream, iteration_of
from events.facts.types import EpisodeStarted
from events.facts.values import BlobHash, Question, QuestionId, id_of_blob
from events.projections.run_summary import AcceptedQuestions, fold
from graph.play.given_texts import certain_questions, surveyed_answers
from graph.play.pool import levelled_documents, made_pool
from graph.recipes.recipe import EpisodePlan, GivenTexts
from graph.settings.config import Config
from graph.settings.seeds import derive_seed, rng
from roles.generation_record import put_question


@dataclass(frozen=True)
class SampledEpisode:
    """An episode before it starts: its stream and its first event."""

    stream: str
    fact: EpisodeStarted
    references: tuple[BlobHash, ...] = ()
    """Questions that the open seat is shown."""
    document: DocumentDrawn | None = None
    """The document that the episode is about."""
    gives_text: bool = False
    """Whether it gives the student a text to learn, instead of asking anything."""
    certain: bool | None = None
    """Whether the answer of that text is certain; None where the question does not arise."""


@dataclass(frozen=True)
class QuestionPools:
    """The questions that episodes are sampled from."""

    goalposts: Sequence[Question]
    practice: Sequence[Question]
    seeds: Sequence[Question]
    examples: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """Questions on each topic."""
    documents: Sequence[Question] = ()


def sample_episodes(
    log: Log, config: Config, plan: EpisodePlan, pools: QuestionPools, iteration: int
) -> Iterator[SampledEpisode]:
    """The episodes of an iteration, in the order of their numbers; GaspError if its texts cannot be told apart."""
    episodes = list(_sample(log, config, plan, pools, iteration))
    if plan.at(iteration).trials is None:
        yield from episodes
        return
    # As many sets as `trials.sets` says, of nearly equal sizes.
    sets = config.trials.sets
    for number, episode in enumerate(episodes):
        numbered = episode.fact.model_copy(update={"set": 1 + number * sets // len(episodes)})
        yield replace(episode, fact=numbered)


def _sample(log: Log, config: Config, plan: EpisodePlan, pools: QuestionPools, iteration: int) -> Iterator[SampledEpisode]:
    play, plan, number = config.play, plan.at(iteration), 0
    purpose: Literal["guided", "practice"]
    for purpose, pool, count in (
        ("guided", pools.goalposts if plan.guided else (), play.episodes),
        ("practice", pools.practice if plan.texts is None and not plan.plays_pool else (), play.practice),
    ):
        # A generator of its own for each purpose, so that the number of guided episodes does not change which real questions
        # are drawn.
        drawn = rng(config.seed, purpose, iteration)
        for question in drawn.sample(list(pool), min(count, len(pool))):
            blob = put_question(log, question)
            fact = EpisodeStarted(
                iteration=iteration,
                purpose=purpose,
                question=question.id,
                blob=blob,
                axis=drawn.choice(plan.axes),
                seed=derive_seed(config.seed, "episode", iteration, number),
            )
            yield SampledEpisode(episode_stream(iteration, number), fact)
            number += 1
    if plan.texts is not None:
        yield from _giving_texts(log, config, plan, plan.texts, pools.practice, iteration)
    if plan.references:
        yield from _unguided(log, config, plan, pools.seeds, iteration, number)
    if plan.topics:
        yield from _on_topics(log, config, plan, pools.examples, iteration, number)
    if plan.documents:
        yield from _about_documents(log, config, plan, pools.documents, iteration, number)
    if plan.plays_pool:
        yield from _from_pool(log, config, plan, iteration, number)


def _giving_texts(
    log: Log, config: Config, plan: EpisodePlan, texts: GivenTexts, pool: Sequence[Question], iteration: int
) -> Iterator[SampledEpisode]:
    """An episode for each training question, in an order of the iteration's own; where a survey decides, for surveyed ones."""
    certain: dict[QuestionId, bool] = {}
    if texts.certain != "unsaid":
        certain = certain_questions(texts, surveyed_answers(log, iteration))
        pool = [question for question in pool if question.id in certain]
    drawn = rng(config.seed, "texts", iteration)
    for number, question in enumerate(drawn.sample(list(pool), min(config.play.practice, len(pool)))):
        fact = EpisodeStarted(
            iteration=iteration,
            purpose="practice",
            question=question.id,
            blob=put_question(log, question),
            axis=plan.axes[0],
            seed=derive_seed(config.seed, "episode", iteration, number),
        )
        stream = episode_stream(iteration, number)
        yield SampledEpisode(stream, fact, gives_text=True, certain=certain.get(question.id))


def _unguided(
    log: Log, config: Config, plan: EpisodePlan, seeds: Sequence[Question], iteration: int, first: int
) -> Iterator[SampledEpisode]:
    """Unguided episodes; references are drawn uniformly from seeds and open questions that earlier iterations accepted."""
    accepted = [event for event in log.read(kinds={"question_accepted"}) if iteration_of(event.stream) < iteration]
    if config.play.shares > 1:
        # Positions depend on how fast each player was.
        accepted.sort(key=lambda event: (event.stream, event.version))
    buffer: list[Question | BlobHash] = [*seeds, *fold(AcceptedQuestions(), accepted).open]
    drawn = rng(config.seed, "unguided", iteration)
    for number in range(first, first + config.play.episodes):
        shown = drawn.sample(buffer, min(plan.references, len(buffer)))
        blobs = tuple(put_question(log, source) if isinstance(source, Question) else source for source in shown)
        fact = EpisodeStarted(
            iteration=iteration,
            purpose="unguided",
            question=id_of_blob(blobs[0]),
            blob=blobs[0],
            axis=drawn.choice(plan.axes),
            seed=derive_seed(config.seed, "episode", iteration, number),
        )
        yield SampledEpisode(episode_stream(iteration, number), fact, blobs)


def _on_topics(
    log: Log, config: Config, plan: EpisodePlan, examples: Mapping[str, Sequence[Question]], iteration: int, first: int
) -> Iterator[SampledEpisode]:
    """Episodes on each topic in turn; those of one topic have one example, so that their prompts are equal."""
    drawn = rng(config.seed, "topics", iteration)
    shown = [(topic, drawn.choice(questions)) for topic, questions in examples.items()]
    for number in range(config.play.episodes):
        topic, example = shown[number % len(shown)]
        fact = EpisodeStarted(
            iteration=iteration,
            purpose="unguided",
            question=example.id,
            blob=put_question(log, example),
            axis=drawn.choice(plan.axes),
            seed=derive_seed(config.seed, "episode", iteration, first + number),
            topic=topic,
        )
        yield SampledEpisode(episode_stream(iteration, first + number), fact)


def _about_documents(
    log: Log, config: Config, plan: EpisodePlan, documents: Sequence[Question], iteration: int, first: int
) -> Iterator[SampledEpisode]:
    """Episodes about documents: each at every level; those of one document and level have one prompt."""
    about = levelled_documents(config, plan, documents, iteration)
    for number, (document, level) in enumerate(about, first):
        blob = put_question(log, document)
        fact = EpisodeStarted(
            iteration=iteration,
            purpose="unguided",
            question=document.id,
            blob=blob,
            axis=plan.axes[0],
            seed=derive_seed(config.seed, "episode", iteration, number),
        )
        yield SampledEpisode(episode_stream(iteration, number), fact, document=DocumentDrawn(document=blob, level=level))


def _from_pool(log: Log, config: Config, plan: EpisodePlan, iteration: int, first: int) -> Iterator[SampledEpisode]:
    """Episodes with the next questions of the pool, which begins again where it ends."""
    pool = made_pool(log)
    count = min(config.play.practice, len(pool.questions))
    begin = (iteration - pool.iteration - 1) * count
    for number in range(count):
        pooled = pool.questions[(begin + number) % len(pool.questions)]
        fact = EpisodeStarted(
            iteration=iteration,
            purpose="practice",
            question=id_of_blob(pooled.question),
            blob=pooled.question,
            axis=plan.axes[0],
            seed=derive_seed(config.seed, "episode", iteration, first + number),
        )
        drawn = DocumentDrawn(document=pooled.document, level=pooled.level)
        yield SampledEpisode(episode_stream(iteration, first + number), fact, document=drawn)
