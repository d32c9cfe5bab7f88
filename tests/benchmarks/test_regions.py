"""Question files of the pocket world that experiments evaluate on."""

from benchmarks.regions import COUNT, files
from roles.pocket.world import read_statement, split_of

SPLITS = {"validation": "validation", "hard": "goalposts"}
"""Splits by file, where they are not `test`."""


def test_questions_are_held_out_and_of_the_region_that_their_file_says() -> None:
    for name, questions in files().items():
        steps = [read_statement(question.statement) for question in questions]
        assert {split_of(each) for each in steps} == {SPLITS.get(name, "test")}
        rare = [[step.operation.target for step in each if step.operation.rare] for each in steps]
        if name.startswith("hard"):
            assert {len(each) for each in rare} == {3, 4, 5}
        else:
            assert {target for each in rare for target in each} == {name == "target"}
        assert len(questions) == COUNT
