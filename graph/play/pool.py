"""The pool: which documents are written about, and which of the questions a student learns from, in which order.

Guarantees: the result depends only on the run's seed and on what earlier iterations left in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from events.facts.drawn_facts import DocumentDrawn, PooledQuestion, PoolMade
from events.facts.errors import GaspError
from events.facts.log import Log, first_fact
from events.facts.questions import read_question
from events.facts.streams import RUN
from events.facts.types import QuestionAccepted
from events.facts.values import LEVELS, BlobHash, Level, Question
from graph.play.context import NodeContext
from graph.recipes.recipe import EpisodePlan
from graph.settings.config import Config
from graph.settings.seeds import seeded_rng


def levelled_documents(
    config: Config, plan: EpisodePlan, documents: Sequence[Question], iteration: int
) -> Iterator[tuple[Question, Level]]:
    """What each episode of an iteration is to be about: for a pool everything once, else as much as `play.episodes` allows."""
    if plan.pools is not None:
        return ((document, level) for document in documents for level in LEVELS)
    shuffled = seeded_rng(config.seed, "documents", iteration).sample(list(documents), len(documents))
    repeated = ((document, level) for document in shuffled for level in LEVELS for _ in range(config.documents.proposals))
    return islice(repeated, config.play.episodes)


def made_pool(log: Log) -> PoolMade:
    """The pool of a run; GaspError if it is empty."""
    pool = first_fact(log, RUN, PoolMade)
    assert pool is not None
    if not pool.questions:
        raise GaspError(
            "The pool is empty, since nothing that the teacher wrote about documents is a question; start a new run with a"
            " model, or prompts, whose proposals can be asked."
        )
    return pool


def record_pool(context: NodeContext, config: Config, streams: Sequence[str], iteration: int) -> None:
    """Append the pool of what the episodes in these streams had accepted, if the iteration's stage makes one.

    Of similar questions the one of the harder level stays, or of one level the later one.
    """
    order = context.plan(iteration).pools
    if order is None:
        return
    log, novelty, rng = context.log, context.novelty.empty(), seeded_rng(config.seed, "pool")
    written = [pooled for stream in streams for pooled in _written(log, stream)]
    rng.shuffle(written)
    written.sort(key=lambda pooled: LEVELS.index(pooled.level))
    kept: list[PooledQuestion] = []
    for pooled in reversed(written):
        question = read_question(log, pooled.question)
        if novelty.similarity(question) <= config.documents.similarity:
            novelty.add(question)
            kept.insert(0, pooled)
    if order == "shuffled":
        rng.shuffle(kept)
    made = PoolMade(iteration=iteration, questions=tuple(kept), similar=len(written) - len(kept))
    log.append(RUN, [made], key=f"pool made@{iteration}")


def _written(log: Log, stream: str) -> Iterator[PooledQuestion]:
    """The question that an episode had accepted, if it had one."""
    about: tuple[BlobHash, Level] | None = None
    for event in log.read(stream):
        match event.fact:
            case DocumentDrawn(document=document, level=level):
                about = document, level
            case QuestionAccepted(blob=blob) if about is not None:
                yield PooledQuestion(question=blob, document=about[0], level=about[1])
