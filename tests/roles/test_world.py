"""The pocket world: words, code and mapping say the same, and splits stay apart."""

import random

import pytest

from roles.pocket import world
from roles.pocket.operations import FAMILIES, OPERATIONS, Family, look_alikes
from roles.pocket.world import Split, Step

SPLITS: tuple[Split, ...] = ("train", "validation", "test", "goalposts")


def compositions(count: int, rare: int = 2) -> list[world.Composition]:
    rng = random.Random(1)
    return [world.draw(rng, rng.choice(FAMILIES), rare, 2) for _ in range(count)]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_the_code_of_an_operation_computes_what_its_function_computes(operation) -> None:
    rng = random.Random(operation.name)
    for k in operation.parameters or (0,):
        steps = (Step(operation, k),)
        names: dict = {}
        exec(world.program(steps), names)  # our own constant text
        for size in ("small", "usual", "large"):
            value = world.draw_input(operation.family, rng, size)
            for _ in range(3):  # values that other operations may hand on
                assert names["f"](value) == world.apply(steps, value)
                value = names["f"](value)


def test_a_statement_reads_back_into_the_composition() -> None:
    for steps in compositions(300):
        text = world.statement(steps)
        assert world.read_statement(text) == steps
        assert world.truth(text) == world.program(steps)
        assert world.motifs(text) == {s.operation.name for s in steps}


@pytest.mark.parametrize(
    "text", ["", "Given a list, fly.", "Sort it.", "Given a list, sort it", "Given a list, spell it backwards."]
)
def test_a_foreign_statement_has_no_truth(text: str) -> None:
    assert world.truth(text) is None


def test_phrases_and_lines_are_unique_in_their_family() -> None:
    for family in FAMILIES:
        mine = [o for o in OPERATIONS if o.family == family]
        assert len({o.phrase for o in mine}) == len({o.code for o in mine}) == len(mine)


def test_every_family_has_rare_operations_in_groups_of_look_alikes() -> None:
    rare = [o for o in OPERATIONS if o.rare]
    assert {o.family for o in rare} == set(FAMILIES)
    assert all(len(look_alikes(o)) == 3 and o not in look_alikes(o) for o in rare)
    assert all(other.group == o.group for o in rare for other in look_alikes(o))
    assert 0 < sum(o.target for o in rare) < len(rare) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_look_alikes_can_be_told_apart(family: Family) -> None:
    rng = random.Random(3)
    inputs = [world.draw_input(family, rng) for _ in range(10)]
    for operation in (o for o in OPERATIONS if o.family == family and o.rare):
        mine = [world.apply((Step(operation),), v) for v in inputs]
        assert all(mine != [world.apply((Step(o),), v) for v in inputs] for o in look_alikes(operation))


def test_questions_are_reproducible_and_sound() -> None:
    first, second = (world.generate("train", 40, 7, rare=(0, 1, 2, 3)) for _ in range(2))
    assert first == second
    assert first != world.generate("train", 40, 8, rare=(0, 1, 2, 3))
    for question in first:
        assert world.truth(question.statement) == question.program
        assert len(question.public) == 2
        assert len({p.output for p in question.pairs}) >= 6


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_owns_its_structures(split: Split) -> None:
    for question in world.generate(split, 60, 0, rare=(3,)):
        steps = world.read_statement(question.statement)
        assert steps is not None
        assert world.split_of(steps) == split


def test_target_questions_use_the_target_operations_only() -> None:
    questions = world.generate("goalposts", 30, 0, rare=(4,), families=("lists", "strings"), region="target")
    targets = {o.name for o in OPERATIONS if o.target or not o.rare}
    assert all(world.motifs(q.statement) <= targets for q in questions)


def test_degenerate_questions_are_recognised() -> None:
    by_name = {o.name: o for o in OPERATIONS}
    reverse, sort = Step(by_name["lists.reverse"]), Step(by_name["lists.sort"])
    inputs = [[1, 3, 2], [5, 4, 9], [7, 7, 1], [2, 8, 6]]
    assert world.degenerate((reverse, sort), inputs, 3) == "operation without effect"
    assert world.degenerate((sort,), [[1, 2], [2, 1]], 2) == "collapsed outputs"
    assert world.degenerate((sort, reverse), inputs, 3) is None
    twice = Step(by_name["strings.echoes.after"])
    assert world.degenerate((twice, twice, twice, twice), ["abcdef", "bcdefa"], 2) == "long outputs"
