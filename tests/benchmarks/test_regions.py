"""Question files of two regions of the pocket world."""

from benchmarks.regions import COUNT, files
from roles.pocket.world import read_statement, split_of


def test_questions_are_held_out_and_of_one_region_each() -> None:
    for name, questions in files().items():
        steps = [read_statement(question.statement) for question in questions]
        assert {split_of(each) for each in steps} == {"validation" if name == "validation" else "test"}
        regions = {step.operation.target for each in steps for step in each if step.operation.rare}
        assert regions == {name == "target"}
        assert len(questions) == COUNT
