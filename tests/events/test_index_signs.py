"""The index says of each sign of reward hacking where its evidence is, whatever text is in it."""

import json
from contextlib import closing
from pathlib import Path

from events.facts.types import AttemptsMade, AttemptsVerified, QuestionValidated
from events.facts.values import IOPair, Question, Verdict, canonical
from events.index.writer import Indexer
from events.stores.memory import MemoryLog
from tests.support.example_runs import PROVENANCE, ExampleRun, example_run, question


def proposed(story: ExampleRun, question: Question, similarity: float = 0.5) -> None:
    story._proposed("easy", 1, story.goalposts[0])
    blob = story.log.put(canonical(question))
    fact = QuestionValidated(seat="easy", question=question.id, blob=blob, similarity=similarity, aligned=None)
    story.log.append(story.stream, [fact])


def answered(story: ExampleRun, question: Question, texts: list[str]) -> None:
    made = story.generation("Solve", len(texts)).model_copy(update={"texts": story.log.put(json.dumps(texts).encode())})
    fact = AttemptsMade(purpose="pass_rate", question=question.id, task="induction", generation=made)
    version = story.log.append(story.stream, [fact])[0].version
    verdicts = (Verdict(outcome="wrong_answer", passed=0, total=3),) * len(texts)
    story.log.append(story.stream, [AttemptsVerified(of=version, verdicts=verdicts, provenance=PROVENANCE)])


def test_signs_say_where_their_evidence_is(tmp_path: Path) -> None:
    log = MemoryLog()
    story = example_run(log).run().goalpost().start(1)
    story.open(story.goalposts[0], "guided")
    first = question(3)
    again = first.model_copy(
        update={"statement": "Again.", "program": "def f(numbers):\n    return [number + 3 for number in numbers]"}
    )
    proposed(story, first)
    proposed(story, again)
    special = "```python\ndef f(xs):\n    if xs == [1, 2]:\n        return [4, 5]\n    return xs\n```"
    answered(story, first, ["```python\ndef f(xs):\n    return xs\n```", special])
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up()
        assert indexing.index.signs() == []
        indexing.catch_up_signs()
        case, duplicate = indexing.index.signs()
        assert indexing.index.sign_counts() == {"near_duplicate": 1, "special_cases_tests": 1}
        assert indexing.index.signs(rule="near_duplicate") == [duplicate] == indexing.index.signs(before=case.position)
    assert (duplicate.rule, duplicate.question, duplicate.other, duplicate.iteration) == (
        "near_duplicate",
        again.id,
        first.id,
        1,
    )
    assert (case.rule, case.question, case.index) == ("special_cases_tests", first.id, 1)
    for sign in (case, duplicate):
        event = next(log.read(sign.stream, after=sign.position - 1, limit=1))
        assert (event.position, event.version) == (sign.position, sign.version)


def test_text_that_no_database_takes_is_indexed_all_the_same(tmp_path: Path) -> None:
    log = MemoryLog()
    story = example_run(log).run().goalpost().start(1)
    story.open(story.goalposts[0], "guided")
    pairs = (IOPair(input="'\0'", output="'\0'"),) * 3
    hostile = Question(statement="one half of\0a pair", program="def f(x):\n    return '\0'", public=pairs, private=pairs)
    proposed(story, hostile)
    answered(story, hostile, ["whole \ud83d answer\0behind", "```python\nif x == '\ud800'\n```"])
    with closing(Indexer(log, tmp_path / "index.sqlite")) as indexing:
        indexing.catch_up()
        indexing.catch_up_signs()
        assert [hit.kind for hit in indexing.index.search("behind")] == ["answers"]
        assert [hit.appearance.question for hit in indexing.index.search('"a pair"')] == [hostile.id]
