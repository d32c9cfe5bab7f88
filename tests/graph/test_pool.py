"""Documents are written about at every level, and what was written becomes a pool."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from events.facts.drawn_facts import DocumentDrawn, PoolMade
from events.facts.errors import GaspError
from events.facts.streams import episode_stream
from events.facts.types import QuestionAccepted
from events.facts.values import IOPair, Question, canonical
from events.stores.memory import MemoryLog
from graph.play.episode_sampling import QuestionPools, sample_episodes
from graph.play.pool import levelled_documents, made_pool, record_pool
from graph.settings.config import Config
from roles.judging.grounding import copied_share
from roles.judging.similarity import NgramEmbedding, Novelty
from roles.pocket.world import grounded
from roles.questions.load import load_questions

DOCUMENTS = load_questions("pocket", "documents").questions
WORDS = "zero one two three four five six seven eight nine".split()


def question(statement):
    return Question(statement=statement, private=(IOPair(input="1", output="1"),))


def written(*statements_and_levels):
    """A log in which each of these was accepted, about a document of its own, and the streams of the episodes."""
    log, streams = MemoryLog(), []
    for number, (statement, level) in enumerate(statements_and_levels):
        streams.append(episode_stream(2, number))
        document, asked = (log.put(canonical(question(text))) for text in (f"document {number}", statement))
        accepted = QuestionAccepted(seat="open", question=question(statement).id, blob=asked, axis="function")
        log.append(streams[-1], [DocumentDrawn(document=document, level=level), accepted])
    return log, streams


def pool_of(name, log, streams, **documents):
    """What the recipe makes of it: statements with their levels, in order, and how many were left out."""
    config = Config(recipe=name, documents={"iterations": 1, **documents})
    context = SimpleNamespace(log=log, novelty=Novelty(NgramEmbedding()), plan=config.algorithm().plan.at)
    record_pool(context, config, streams, iteration=1)
    assert not list(log.read("run")), "the first stage makes none"
    record_pool(context, config, streams, iteration=2)
    record_pool(context, config, streams, iteration=2)
    (event,) = log.read("run")
    pool = event.fact
    assert isinstance(pool, PoolMade)
    read = [Question.model_validate_json(log.get(pooled.question)).statement for pooled in pool.questions]
    return list(zip(read, [pooled.level for pooled in pool.questions], strict=True)), pool.similar


def test_a_pool_goes_from_easy_to_hard_and_in_an_order_of_the_seed_within_a_level():
    all_levels = [(word, level) for word in WORDS for level in ("hard", "easy", "medium")]
    statements = [(f"{word} {level}", level) for word, level in all_levels]
    pool, similar = pool_of("darc", *written(*statements), similarity=1.0)
    assert (sorted(pool), similar) == (sorted(statements), 0)
    assert [level for _, level in pool] == ["easy"] * 10 + ["medium"] * 10 + ["hard"] * 10
    assert [text for text, _ in pool[:10]] != [f"{word} easy" for word in WORDS]
    assert pool_of("darc", *written(*statements), similarity=1.0) == (pool, 0)
    shuffled, _ = pool_of("darc_shuffled", *written(*statements), similarity=1.0)
    assert sorted(shuffled) == sorted(pool)
    assert [level for _, level in shuffled] != [level for _, level in pool]


def test_of_similar_questions_the_harder_one_stays():
    same = "rotate the list left and take running sums of it"
    pool, similar = pool_of("darc", *written((f"{same}.", "hard"), (same, "easy"), (f"{same} now", "medium"), ("sort", "easy")))
    assert (pool, similar) == ([("sort", "easy"), (f"{same}.", "hard")], 2)


def test_a_pool_is_played_in_its_order_and_begins_again_where_it_ends():
    log, streams = written(*((word, "easy") for word in WORDS[:5]))
    config = Config(recipe="darc", play={"practice": 3}, documents={"iterations": 1, "similarity": 1.0})
    pool_of("darc", log, streams, similarity=1.0)
    pooled = made_pool(log).questions

    def played(iteration):
        episodes = list(sample_episodes(log, config, config.algorithm().plan, QuestionPools((), (), ()), iteration))
        assert {episode.fact.purpose for episode in episodes} == {"practice"}
        return [(episode.fact.blob, episode.document.document, episode.document.level) for episode in episodes]

    expected = [(each.question, each.document, each.level) for each in pooled]
    assert [*played(3), *played(4)] == [*expected, expected[0]]
    assert len(set(played(5))) == 3


def test_an_empty_pool_is_an_error_in_one_sentence():
    log, _ = written()
    log.append("run", [PoolMade(iteration=2, questions=(), similar=0)])
    with pytest.raises(GaspError, match=r"^The pool is empty, .*\.$"):
        made_pool(log)


def test_a_document_is_written_about_at_every_level_so_often_that_proposals_can_be_compared():
    config = Config(recipe="darc", play={"episodes": 10}, documents={"iterations": 1, "proposals": 2})
    first, second, *_ = config.algorithm().plan.stages
    drawn = list(levelled_documents(config, first, DOCUMENTS, 1))
    levels = [level for level in ("easy", "medium", "hard") for _ in range(2)]
    assert [level for _, level in drawn] == [*levels, *levels[:4]]
    assert len({document.id for document, _ in drawn}) == 2
    assert drawn != list(levelled_documents(config, first, DOCUMENTS, 2))
    everything = list(levelled_documents(config, second, DOCUMENTS, 2))
    assert (len(everything), len(set(everything))) == (3 * len(DOCUMENTS),) * 2


def test_a_statement_is_copied_as_far_as_its_6_grams_are_in_the_document():
    assert copied_share("take running sums", "first take running sums of it") == 1
    assert copied_share("take the sums of all rows", "first take running sums of it") == pytest.approx(4 / 20)
    assert copied_share("short", "a short text") == 0


def test_a_statement_is_grounded_if_the_document_names_all_of_its_operations():
    document = "def f(x):\n    x = x[1:] + x[:1]\n    # rotate left\n    # sort it\n    return x"
    assert grounded("Given a list, sort it, rotate left.", document)
    assert not grounded("Given a list, sort it, rotate right.", document)
    assert not grounded("Sort it.", document)


def test_documents_of_the_pocket_world_are_programs_in_which_nothing_or_one_line_is_left_out():
    partial = load_questions("roles/pocket/questions/partial.jsonl", "train").questions
    for whole, part in zip(DOCUMENTS, partial, strict=True):
        lines = whole.statement.split("\n")
        assert lines[0] == "def f(x):"
        (left_out,) = set(lines) - set(part.statement.split("\n"))
        assert not left_out.startswith("    #")
