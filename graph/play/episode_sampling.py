"""Samples the episodes of an iteration: which questions they start from, with which axis and seed.

Guarantees: the result depends only on the run's seed and on what earlier iterations left in the log, so a resumed run samples
the same episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from events.facts.drawn_facts import DocumentDrawn
from events.facts.log import Log
from events.facts.streams import episode_stream, iteration_of
from events.facts.types import EpisodeStarted
from events.facts.values import Axis, BlobHash, EpisodePurpose, Question, QuestionId, id_of_blob
from events.projections.run_summary import AcceptedQuestions, fold
from graph.play.given_texts import certain_questions, surveyed_answers
from graph.play.pool import levelled_documents, made_pool
from graph.recipes.recipe import EpisodePlan, GivenTexts
from graph.settings.config import Config
from graph.settings.seeds import derive_seed, seeded_rng
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
    """Real questions that are trained on."""
    seeds: Sequence[Question] = ()
    """Questions that the first unguided episodes take references from."""
    examples: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """Questions on each topic that the open seat may be asked to write about."""
    documents: Sequence[Question] = ()


def sample_episodes(
    log: Log, config: Config, plan: EpisodePlan, pools: QuestionPools, iteration: int
) -> Iterator[SampledEpisode]:
    """The episodes of an iteration, in the order of their numbers; GaspError if its texts cannot be told apart."""
    episodes = list(_Sampler(log, config, plan.at(iteration), iteration).sample(pools))
    if plan.at(iteration).trials is None:
        yield from episodes
        return
    # As many sets as `trials.sets` says, of nearly equal sizes.
    sets = config.trials.sets
    for number, episode in enumerate(episodes):
        numbered = episode.fact.model_copy(update={"set": 1 + number * sets // len(episodes)})
        yield replace(episode, fact=numbered)


@dataclass(frozen=True)
class _Sampler:
    """Samples the episodes of one iteration."""

    log: Log
    config: Config
    plan: EpisodePlan
    """The iteration's stage."""
    iteration: int

    def sample(self, pools: QuestionPools) -> Iterator[SampledEpisode]:
        """All episodes, numbered in this order."""
        plan, play, number = self.plan, self.config.play, 0
        purpose: EpisodePurpose
        for purpose, pool, count in (
            ("guided", pools.goalposts if plan.guided else (), play.episodes),
            ("practice", pools.practice if plan.texts is None and not plan.plays_pool else (), play.practice),
        ):
            # A generator of its own for each purpose, so that the number of guided episodes does not change which real
            # questions are drawn.
            rng = seeded_rng(self.config.seed, purpose, self.iteration)
            for question in rng.sample(list(pool), min(count, len(pool))):
                yield self._episode(number, purpose, question, rng.choice(plan.axes))
                number += 1
        if plan.texts is not None:
            yield from self._giving_texts(plan.texts, pools.practice)
        if plan.references:
            yield from self._unguided(pools.seeds, number)
        if plan.topics:
            yield from self._on_topics(pools.examples, number)
        if plan.documents:
            yield from self._about_documents(pools.documents, number)
        if plan.plays_pool:
            yield from self._from_pool(number)

    def _episode(
        self, number: int, purpose: EpisodePurpose, question: Question | BlobHash, axis: Axis, topic: str = ""
    ) -> SampledEpisode:
        """The episode of this number, which starts from a question."""
        blob = put_question(self.log, question) if isinstance(question, Question) else question
        fact = EpisodeStarted(
            iteration=self.iteration,
            purpose=purpose,
            question=id_of_blob(blob),
            blob=blob,
            axis=axis,
            seed=derive_seed(self.config.seed, "episode", self.iteration, number),
            topic=topic,
        )
        return SampledEpisode(episode_stream(self.iteration, number), fact)

    def _giving_texts(self, texts: GivenTexts, pool: Sequence[Question]) -> Iterator[SampledEpisode]:
        """One for each training question, in an order of the iteration's own; where a survey decides, for surveyed ones."""
        certain: dict[QuestionId, bool] = {}
        if texts.certain != "unsaid":
            certain = certain_questions(texts, surveyed_answers(self.log, self.iteration))
            pool = [question for question in pool if question.id in certain]
        rng = seeded_rng(self.config.seed, "texts", self.iteration)
        for number, question in enumerate(rng.sample(list(pool), min(self.config.play.practice, len(pool)))):
            episode = self._episode(number, "practice", question, self.plan.axes[0])
            yield replace(episode, gives_text=True, certain=certain.get(question.id))

    def _unguided(self, seeds: Sequence[Question], first: int) -> Iterator[SampledEpisode]:
        """Unguided ones; references are drawn uniformly from seeds and open questions that earlier iterations accepted."""
        events = self.log.read(kinds={"question_accepted"})
        accepted = [event for event in events if iteration_of(event.stream) < self.iteration]
        if self.config.play.shares > 1:
            # Positions depend on how fast each player was.
            accepted.sort(key=lambda event: (event.stream, event.version))
        buffer: list[Question | BlobHash] = [*seeds, *fold(AcceptedQuestions(), accepted).open]
        rng = seeded_rng(self.config.seed, "unguided", self.iteration)
        for number in range(first, first + self.config.play.episodes):
            shown = rng.sample(buffer, min(self.plan.references, len(buffer)))
            blobs = tuple(put_question(self.log, source) if isinstance(source, Question) else source for source in shown)
            yield replace(self._episode(number, "unguided", blobs[0], rng.choice(self.plan.axes)), references=blobs)

    def _on_topics(self, examples: Mapping[str, Sequence[Question]], first: int) -> Iterator[SampledEpisode]:
        """Episodes on each topic in turn; those of one topic have one example, so that their prompts are equal."""
        rng = seeded_rng(self.config.seed, "topics", self.iteration)
        shown = [(topic, rng.choice(questions)) for topic, questions in examples.items()]
        for number in range(self.config.play.episodes):
            topic, example = shown[number % len(shown)]
            yield self._episode(first + number, "unguided", example, rng.choice(self.plan.axes), topic)

    def _about_documents(self, documents: Sequence[Question], first: int) -> Iterator[SampledEpisode]:
        """Episodes about documents: each at every level; those of one document and level have one prompt."""
        about = levelled_documents(self.config, self.plan, documents, self.iteration)
        for number, (document, level) in enumerate(about, first):
            episode = self._episode(number, "unguided", document, self.plan.axes[0])
            yield replace(episode, document=DocumentDrawn(document=episode.fact.blob, level=level))

    def _from_pool(self, first: int) -> Iterator[SampledEpisode]:
        """Episodes with the next questions of the pool, which begins again where it ends."""
        pool = made_pool(self.log)
        count = min(self.config.play.practice, len(pool.questions))
        begin = (self.iteration - pool.iteration - 1) * count
        for number in range(count):
            pooled = pool.questions[(begin + number) % len(pool.questions)]
            drawn = DocumentDrawn(document=pooled.document, level=pooled.level)
            yield replace(self._episode(first + number, "practice", pooled.question, self.plan.axes[0]), document=drawn)
