"""Questions about documents from the first to the last stage, with a scripted model and the real graph, verifier and sandbox."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest

from events.facts.drawn_facts import DocumentDrawn, PoolMade
from events.facts.label_facts import LabelVoted
from events.facts.streams import iteration_of
from events.facts.types import AttemptsMade, AttemptsVerified, QuestionAccepted, QuestionProposed, QuestionRejected, RewardGiven
from events.facts.values import IOPair, Question
from events.stores.memory import MemoryLog
from graph.recipes.darc import Darc
from roles.prompt import Prompts
from roles.verifier import Verifier
from tests.graph.test_loop import make_play
from tests.graph.test_play import RIGHT, WRONG, proposal, python
from tests.graph.test_resumed_calls import RecordingLog
from trainer.data.recrediting import recredited_rewards

pytestmark = pytest.mark.docker

DOCUMENTS = tuple(
    Question(statement=f"Document {name} says how to sort and how to double.", private=(IOPair(input="[1]", output="[1]"),))
    for name in "AB"
)
PLAY = {
    "iterations": 4, "episodes": 12, "practice": 3, "practice_attempts": 4, "attempts": 5, "public_pairs": 0,
    "tasks": ("induction",),
}  # fmt: skip
SETTINGS = {
    "recipe": "darc", "play": PLAY, "documents": {"iterations": 1, "proposals": 2, "attempts": 4}, "test": "none",
    "evaluate": {"questions": 1, "attempts": 1},
}  # fmt: skip
MIRROR = "def f(x):\n    y = x[::-1]\n    return y"


class Script:
    """About each document: sound questions, a copied one, an ungrounded one, and one to which no answers agree.

    Whoever sees the document is right, and of those who do not every other one.
    """

    seeds: ClassVar[dict[str, list[int]]] = {}
    """Seeds of each prompt, the first one first, also for a run that goes on."""

    def __call__(self, prompt, seed, index):
        document = re.search(r"Document [AB].*", prompt)
        if "write a question" in prompt:
            seeds = self.seeds.setdefault(prompt, [])
            seeds += [seed] * (seed not in seeds)
            level, first = re.search("# Level: (.*)", prompt)[1], seeds.index(seed) % 2 == 0
            name = document[0].split()[1]
            match level, first:
                case "easy", _:
                    return proposal(f"sort {name}", RIGHT["sort"])
                case "medium", True:
                    return proposal(f"sort and double {name}", RIGHT["sort and double"])
                case "medium", False:
                    return proposal(document[0], RIGHT["sort"])
                case "hard", True:
                    return proposal(f"mirror {name}", MIRROR)
            return proposal(f"ungrounded {name}", MIRROR)
        statement = re.search("^(sort and double|sort|mirror) [AB]$", prompt, re.MULTILINE)
        if statement is None:
            return python(WRONG)
        if statement[1] == "mirror":
            # Four answers with four different outputs.
            return python(f"def f(x):\n    return {index} if {index} < 3 else x[::-1]")
        return python(RIGHT[statement[1]] if document or index % 2 else WRONG)


async def play(log, runner, tmp_path, script=None):
    played = make_play(log, runner, script or Script(), tmp_path, **SETTINGS)
    (model,) = played.weights.models.values()
    context, prompts, batched = played.context, Prompts.named("pocket3"), played.scheduler.model(model)
    played.context = replace(
        context,
        teacher=replace(context.teacher, prompts=prompts, model=batched),
        solver=replace(context.solver, prompts=prompts, model=batched),
        verifier=Verifier(context.verifier.runner, 5, 0),
        documents=played.config.documents,
        grounded=lambda statement, document: not statement.startswith("ungrounded"),
        ties="first",
    )
    played.weights.models = {"teacher": model, "student": model}
    played.pools = replace(played.pools, documents=DOCUMENTS, practice=())
    await played.run()
    return log


@pytest.fixture(scope="module")
def whole(runner, tmp_path_factory):
    """The log of a run that nothing stopped, which is played once."""
    return asyncio.run(play(RecordingLog(), runner, tmp_path_factory.mktemp("run")))


def told(log, kind, iteration):
    return [
        event.fact
        for event in log.read()
        if isinstance(event.fact, kind) and event.stream.startswith("episode") and iteration_of(event.stream) == iteration
    ]


def test_the_teacher_earns_how_near_matches_come_to_the_level_and_loses_what_is_no_question_about_the_document(whole):
    levels = Counter(fact.level for fact in told(whole, DocumentDrawn, 1))
    assert levels == {"easy": 4, "medium": 4, "hard": 4}
    assert Counter(fact.reason for fact in told(whole, QuestionRejected, 1)) == {"copied": 2, "ungrounded": 2}
    rewards = told(whole, RewardGiven, 1)
    assert {(fact.role, fact.phase) for fact in rewards} == {("teacher", "open")}, "the student does not learn yet"
    # Of five answers two match: 1 - |0.4 - 0.8| and 1 - |0.4 - 0.5|; of the mirror's one matches the first of four labels.
    assert Counter(fact.rewards[0] for fact in rewards) == {0.6: 4, 0.9: 2, -1.0: 4, 1.0: 2}


def test_answers_with_the_document_label_those_without(whole):
    made = {(event.stream, event.version): event.fact for event in whole.read() if isinstance(event.fact, AttemptsMade)}
    for iteration, purpose in ((1, "pass_rate"), (3, "practice")):
        prompts = {"label": set(), purpose: set()}
        for (stream, _), fact in made.items():
            if stream.startswith("episode") and iteration_of(stream) == iteration:
                prompts[fact.purpose].add("Document" in whole.get(fact.generation.prompt).decode())
        assert prompts == {"label": {True}, purpose: {False}}
    votes = told(whole, LabelVoted, 1)
    assert Counter((fact.informed, fact.votes, fact.agrees) for fact in votes if fact.attempts == 4) == {
        (True, 4, True): 6, (True, 1, False): 2,
    }  # fmt: skip
    assert {fact.informed for fact in votes if fact.attempts == 5} == {False}
    assert {fact.seat for iteration in (1, 3) for fact in told(whole, LabelVoted, iteration)} == {"open"}
    labels = [fact.provenance.labels for fact in told(whole, AttemptsVerified, 1)]
    assert Counter(labels) == {"vote": 8, "informed": 8}


def test_the_pool_is_written_once_without_answers_or_rewards(whole):
    assert len(told(whole, QuestionProposed, 2)) == 3 * len(DOCUMENTS)
    assert not told(whole, AttemptsMade, 2)
    assert not told(whole, RewardGiven, 2)
    (pool,) = [event.fact for event in whole.read("run") if isinstance(event.fact, PoolMade)]
    written = told(whole, QuestionAccepted, 2)
    assert {pooled.question for pooled in pool.questions} <= {fact.blob for fact in written}
    assert len(pool.questions) + pool.similar == len(written)
    kinds = [event.fact.kind for event in whole.read("run")]
    assert kinds.index("pool_made") == [n for n, kind in enumerate(kinds) if kind == "iteration_finished"][1] - 1


def test_the_student_learns_from_the_pool_in_its_order_where_enough_voters_agree(whole):
    (pool,) = [event.fact for event in whole.read("run") if isinstance(event.fact, PoolMade)]
    drawn = [fact for iteration in (3, 4) for fact in told(whole, DocumentDrawn, iteration)]
    expected = [(each.document, each.level) for each in (*pool.questions, *pool.questions)][: len(drawn)]
    assert [(fact.document, fact.level) for fact in drawn] == expected
    for iteration in (3, 4):
        rewards = told(whole, RewardGiven, iteration)
        assert {(fact.role, fact.phase, fact.rewards) for fact in rewards} == {("student", "practice", (0.0, 1.0, 0.0, 1.0))}
        agreed = [fact for fact in told(whole, LabelVoted, iteration) if fact.informed and fact.votes >= 0.3 * fact.attempts]
        assert len(rewards) == len(agreed)
    assert any(fact.informed and fact.votes == 1 for n in (3, 4) for fact in told(whole, LabelVoted, n)), (
        "else nothing is untaught"
    )


def test_another_recipe_would_credit_and_the_same_one_does_as_recorded(whole):
    recipe = Darc(plan=None)
    events = list(whole.read())
    again = recredited_rewards(events, recipe)
    given = {(event.stream, event.fact.of): event.fact.rewards for event in events if isinstance(event.fact, RewardGiven)}
    assert {place: again[place] for place in given} == given


async def test_a_run_that_was_cut_anywhere_ends_with_the_head_of_one_that_was_not(whole, runner, tmp_path):
    count = len(whole.appends)
    pool = next(n for n, (_, request) in enumerate(whole.appends) if request.facts[0].kind == "pool_made")
    for cut in {*range(3, count, 17), pool, pool + 1}:
        assert (await play(RecordingLog(whole.appends[:cut]), runner, tmp_path)).head() == whole.head(), f"{cut} of {count}"


async def test_what_no_answer_gives_outputs_to_has_no_label_and_earns_the_teacher_nothing(runner, tmp_path):
    class Crashing(Script):
        def __call__(self, prompt, seed, index):
            return (
                super().__call__(prompt, seed, index) if "write a question" in prompt else python("def f(x):\n    return x[99]")
            )

    log = await play(MemoryLog(), runner, tmp_path, Crashing())
    assert not [fact for fact in told(log, RewardGiven, 1) if fact.rewards[0] > -1]
    assert {fact.label for fact in told(log, LabelVoted, 1)} == {None}
    assert not told(log, RewardGiven, 3)
