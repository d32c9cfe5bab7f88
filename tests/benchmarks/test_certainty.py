"""The comparison of docs/certainty.md: where its questions are from, and what its table says of runs."""

from contextlib import closing

from typer.testing import CliRunner

from benchmarks.certainty import COUNT, app, files
from events.stores import open_log
from roles.pocket.world import read_statement, split_of
from tests.support.example_runs import example_run


def test_questions_are_held_out_and_of_one_region_each() -> None:
    for name, questions in files().items():
        steps = [read_statement(question.statement) for question in questions]
        assert {split_of(each) for each in steps} == {"validation" if name == "validation" else "test"}
        regions = {step.operation.target for each in steps for step in each if step.operation.rare}
        assert regions == {name == "target"}
        assert len(questions) == COUNT


def test_the_table_has_the_mean_over_seeds_and_the_first_weights_once(tmp_path) -> None:
    for seed, passed in ((0, True), (1, False)):
        with closing(open_log(tmp_path / f"arm-{seed}" / "log.sqlite", create=True)) as log:
            tale = example_run(log).run().evaluate()
            if not seed:
                tale.calibrate(scores=[(True, 0.5, 0.9)])
            tale.start().finish().update().evaluate().calibrate(scores=[(passed, 0.5, 0.9), (False, 0.5, 0.9)])
    rows = CliRunner().invoke(app, ["table", str(tmp_path)]).stdout.splitlines()
    assert rows[2].startswith("| test | arm | 2 | 0.250 ± 0.354 | 1.000 ± 0.000 | 0.250 ± 0.354 | 0.875 ± 0.000 | 0.750")
    assert rows[3].startswith("| test | base | 1 | 1.000 | 1.000 | 1.000 | 0.875 | 0.750 | 0.125 | 0.000 |")
