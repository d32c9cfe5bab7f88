"""What ships: pocket weights that load, answer and teach, and question files that keep apart."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from events.facts.values import Question, Sampling
from events.facts.weights import weights_digest
from events.pure.answer_parsing import Proposal, parse_program, parse_proposal
from roles.certainty_words import WORDS
from roles.given_text import answer_of, certainty_question
from roles.model import GenerationRequest
from roles.models.transformers import TransformersModel
from roles.pocket import QUESTIONS, WEIGHTS, world
from roles.pocket.corpus import Corpus, half_known
from roles.pocket.generation import FIRST, GENERATIONS, SECOND, PocketGeneration
from roles.pocket.operations import FAMILIES, OPERATIONS
from roles.pocket.questions import candidates, deep, train
from roles.prompt import Prompts, Rendered
from roles.prompt_set import SHIPPED_PROMPTS
from roles.questions.load import load_questions

SIZES = {"train": 400, "validation": 100, "test": 200, "goalposts": 100}


def agrees(proposal: Proposal) -> bool:
    steps = world.read_statement(proposal.message)
    return steps is not None and code_lines(proposal.program) == code_lines(world.program(steps))


def code_lines(program: str) -> list[str]:
    return [line for line in program.rstrip().split("\n") if not line.lstrip().startswith("#")]


def shipped(split: str, folder: Path = QUESTIONS) -> list[Question]:
    return [Question.model_validate_json(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    return TransformersModel(WEIGHTS, weights_digest(WEIGHTS))


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(SHIPPED_PROMPTS / "pocket")


async def pass_rate(model: TransformersModel, ask: Callable[[Question], Rendered], rare: int) -> float:
    questions = world.generate("train", 40, 5, rare=(rare,))
    requests = [GenerationRequest(ask(q).text, 10, i, Sampling(max_tokens=48)) for i, q in enumerate(questions)]
    right = 0
    for question, reply in zip(questions, await model.generate(requests), strict=True):
        for completion in reply.completions:
            program = parse_program(completion.text)
            right += isinstance(program, str) and code_lines(program) == code_lines(question.program or "")
    return right / 400


@pytest.mark.parametrize(("split", "size"), SIZES.items())
def test_the_shipped_questions_are_whole_and_true(split: str, size: int) -> None:
    questions = shipped(split)
    assert len(questions) == size == len({q.id for q in questions})
    for question in questions:
        assert world.truth(question.statement) == question.program
        assert (len(question.public), len(question.private)) == (2, 8)


def test_the_second_generation_shares_all_questions_but_goalposts_with_the_first() -> None:
    for split in ("train", "validation", "test"):
        assert load_questions("pocket2", split).questions == load_questions("pocket", split).questions
    goalposts = shipped("goalposts", SECOND.questions)
    assert list(load_questions("pocket2", "goalposts").questions) == goalposts
    assert goalposts == [question for question in candidates(0, 200, SECOND) if question in set(goalposts)]
    steps = [world.read_statement(question.statement) for question in goalposts]
    assert Counter(sum(step.operation.rare for step in each or ()) for each in steps) == {3: 38, 4: 17, 5: 21, 6: 24}


def test_the_shipped_files_are_what_the_command_makes() -> None:
    assert shipped("train") == train(0)
    assert shipped("validation") == deep("validation", 0, 100)
    assert shipped("test") == deep("test", 0, 200)
    assert set(shipped("goalposts")) <= set(candidates(0, 160))


@pytest.mark.parametrize(
    ("generation", "asked"),
    [(FIRST, ["pocket"] + ["rlvr-100"] * 3 + ["azr-100"] * 3), (SECOND, ["pocket"])],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_shipped_goalposts_are_the_file_that_the_filter_wrote(generation: PocketGeneration, asked: list[str]) -> None:
    origin = json.loads((generation.questions / "goalposts.provenance.json").read_text())
    assert hashlib.sha256((generation.questions / "goalposts.jsonl").read_bytes()).hexdigest() == origin["file"]
    assert [policy["who"] for policy in origin["policies"]] == asked
    assert origin["questions"] - sum(policy["dropped"] for policy in origin["policies"]) == origin["unsolved"]


def test_no_structure_is_in_two_splits() -> None:
    seen: dict[str, str] = {}
    for split in SIZES:
        for question in [*shipped(split), *(shipped(split, SECOND.questions) if split == "goalposts" else [])]:
            steps = world.read_statement(question.statement)
            assert steps is not None
            assert seen.setdefault(world.structure(steps), split) == split


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=GENERATIONS)
def test_the_corpus_holds_no_structure_of_another_split(generation: PocketGeneration) -> None:
    rng, corpus = random.Random(0), Corpus(Prompts.named(generation.name), generation)
    held_out = {q.statement for split in ("validation", "test", "goalposts") for q in shipped(split)}
    held_out |= {q.statement for q in shipped("goalposts", SECOND.questions)}
    for _ in range(2000):
        example = corpus.draw(rng)
        assert not any(line in held_out for line in (example.prompt + example.answer + example.tail).split("\n"))


def test_half_known_operations_are_mistaken_as_often_as_they_say() -> None:
    rng = random.Random(0)
    for operation in OPERATIONS:
        right = sum(half_known(operation, rng) is operation for _ in range(2000)) / 2000
        assert right == pytest.approx(operation.known, abs=0.05)


@pytest.mark.parametrize("folder", [generation.weights for generation in GENERATIONS.values()], ids=GENERATIONS)
def test_the_optimizer_state_fits_the_model(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights, safe_open(folder / "optimizer.moments", "pt") as adam:
        assert set(adam.keys()) == {f"{name}.exp_avg_sq" for name in weights.keys()} | {"step"}  # noqa: SIM118
        for name in weights.keys():  # noqa: SIM118
            assert weights.get_slice(name).get_shape() == adam.get_slice(f"{name}.exp_avg_sq").get_shape()
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


async def test_rare_operations_make_questions_harder_smoothly(model, prompts) -> None:
    none, one, two, three = [await pass_rate(model, prompts.induction, rare) for rare in range(4)]
    assert none > 0.85
    assert 0.3 < one < 0.65
    assert 0.1 < two < 0.35
    assert 0.0 < three < 0.15


async def test_the_teacher_writes_valid_and_true_proposals(model, prompts) -> None:
    goalposts = shipped("goalposts")
    requests = [
        GenerationRequest(prompts.easy(g, axis).text, 2, i, Sampling(max_tokens=224))
        for i, g in enumerate(goalposts)
        for axis in ("io", "function")
    ]
    texts = [c.text for reply in await model.generate(requests) for c in reply.completions]
    proposals = [p for p in map(parse_proposal, texts) if isinstance(p, Proposal)]
    true = [p for p in proposals if agrees(p)]
    assert len(proposals) > 0.9 * len(texts)
    assert len(true) > 0.9 * len(proposals)
    assert len({p.program for p in true}) > 0.5 * len(true)


async def test_the_second_generation_reads_questions_without_pairs_and_topics_alone() -> None:
    model, prompts = TransformersModel(SECOND.weights, weights_digest(SECOND.weights)), Prompts.named("pocket2")
    assert not prompts.topic_shows_an_example
    assert await pass_rate(model, prompts.unpaired, 0) > 0.8
    assert 0.3 < await pass_rate(model, prompts.unpaired, 1) < 0.65
    topics = {family: world.opener(family).removeprefix("Given ") for family in FAMILIES}
    requests = [
        GenerationRequest(prompts.topic(topic, shipped("goalposts")[0]).text, 8, i, Sampling(max_tokens=224))
        for i, topic in enumerate(topics.values())
    ]
    proposals = [
        (family, parse_proposal(completion.text))
        for family, reply in zip(topics, await model.generate(requests), strict=True)
        for completion in reply.completions
    ]
    true = [(family, p) for family, p in proposals if isinstance(p, Proposal) and agrees(p)]
    assert len(true) > 0.5 * len(proposals)
    assert all(world.family_of(proposal.message) == family for family, proposal in true)
    (question,) = world.generate("train", 1, 5, rare=(1,))
    asked = prompts.induction(question).text + answer_of(prompts, question) + certainty_question(prompts)
    (reply,) = await model.generate([GenerationRequest(asked, 20, 0, Sampling(max_tokens=1))])
    assert {completion.text for completion in reply.completions} >= set(WORDS.values())


async def test_any_text_can_be_asked(model) -> None:
    (reply,) = await model.generate(
        [GenerationRequest("Gegeben: ein Wörtchen 🎉\n\t<|end|> x=1", 1, 0, Sampling(max_tokens=8))]
    )
    assert reply.completions[0].token_ids
