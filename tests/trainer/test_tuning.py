"""Warm starts from verified attempts: what is taken from a log, and real steps of TRL's trainers on it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from events.facts.rollouts import pack_rollouts
from events.facts.values import Generation, Role
from events.facts.weights import weights_digest
from events.stores.memory import MemoryLog
from tests.support.example_runs import ExampleRun, example_run, question
from tests.support.tiny_model import load_model, logprobs, tiny_weights
from tests.trainer.test_run import play
from trainer.data import preferences
from trainer.job.offline import SourceRun, open_sources, start_weights
from trainer.learn import tuning
from trainer.learn.tuning import MADE_OF, TuningSettings


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Iterator[SourceRun]:
    with open_sources([play(tmp_path_factory.mktemp("runs") / "old", iterations=1)]) as (source,):
        yield source


def test_only_verified_answers_of_training_are_taken_once_and_as_sampled() -> None:
    story = example_run(MemoryLog()).run().goalpost().start(2)
    story.episode(lemma=4, lift=None, gap_successes=3, attempts=10, task="induction")
    story.practice(passing=2, attempts=8).finish().evaluate(successes=5)
    assert len(preferences.passed_completions(story.log)) == 4 + 2
    pairs = preferences.preference_pairs(story.log)
    assert len(pairs) == 4 + 2
    passed = {(example.prompt, example.ids) for example in preferences.passed_completions(story.log)}
    assert {(example.prompt, example.chosen) for example in pairs} == passed
    assert not any((example.prompt, example.rejected) in passed for example in pairs)


def test_answers_that_only_a_vote_judged_are_no_examples() -> None:
    story = example_run(MemoryLog()).run().goalpost().start()
    story.open(question(1), "unguided")
    story.propose("open", 1, question(1), 6, 10, voted={})
    story.propose("open", 2, question(1), 6, 10, informed=8)
    assert not preferences.passed_completions(story.log)
    assert not preferences.preference_pairs(story.log)


def test_text_that_completions_begin_with_belongs_to_the_prompt(monkeypatch) -> None:
    story = example_run(MemoryLog()).run().goalpost().start(1)
    expected_masks = {
        0: [False, False, True, True],
        1: [False, False, True],
        2: [False, False, True, False, True],
        3: [False, False],
    }

    def generation(prompt: str, count: int, role: Role = "student") -> Generation:
        made = ExampleRun.generation(story, prompt, count, role)
        rows = [[5, 6, *range(10 * row + 10, 10 * row + 8 + len(marks))] for row, marks in expected_masks.items()]
        blob = pack_rollouts([1, 2], rows, [[-1.0] * len(row) for row in rows], list(expected_masks.values()))
        return made.model_copy(update={"tokens": story.log.put(blob), "count": 4})

    monkeypatch.setattr(story, "generation", generation)
    story.practice(passing=3, attempts=4)
    passed = preferences.passed_completions(story.log)
    assert [(example.prompt, example.ids) for example in passed] == [((1, 2, 5, 6), (10, 11)), ((1, 2, 5, 6), (20,))]
    assert [(pair.chosen, pair.rejected) for pair in preferences.preference_pairs(story.log)] == [((10, 11), ())]


def mean(model: Path, rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> float:
    values = [float(logprobs(load_model(model), list(prompt), list(ids)).mean()) for prompt, ids in rows]
    return sum(values) / len(values)


def test_sft_makes_answers_that_passed_likelier_and_gives_the_same_bits_again(source, tmp_path) -> None:
    start, answers = source.weights, preferences.passed_completions(source.log)
    digests = []
    for name in ("one", "other"):
        tuning.prepare_process(start, tmp_path / name)
        digests.append(tuning.sft(start, answers, [source.name()], TuningSettings(learning_rate=1e-3), tmp_path / name))
    assert digests[0] == digests[1] == weights_digest(tmp_path / "one") != weights_digest(start)
    rows = [(answer.prompt, answer.ids) for answer in answers]
    assert mean(tmp_path / "one", rows) > mean(start, rows) + 0.01
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (start / "tokenizer.json").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}


def test_dpo_moves_apart_what_passed_and_what_failed(source, tmp_path) -> None:
    start, pairs = source.weights, preferences.preference_pairs(source.log)
    tuning.prepare_process(start, tmp_path / "out")
    digest = tuning.dpo(start, pairs, [source.name()], TuningSettings(learning_rate=1e-3), tmp_path / "out")
    assert digest != weights_digest(start)

    def margin(model: Path) -> float:
        return mean(model, [(pair.prompt, pair.chosen) for pair in pairs]) - mean(
            model, [(pair.prompt, pair.rejected) for pair in pairs]
        )

    assert margin(tmp_path / "out") > margin(start) + 0.001
    made = json.loads((tmp_path / "out" / MADE_OF).read_text())
    head = source.log.head()
    assert made["logs"] == [{"name": "old", "until": head.position, "head": head.digest}]
    assert (made["method"], made["parent"], made["examples"]) == ("dpo", weights_digest(start), len(pairs))


def test_what_cannot_be_tuned_is_one_sentence(source, tmp_path) -> None:
    with pytest.raises(BadInput, match="nothing to tune on"):
        tuning.sft(source.weights, [], [], TuningSettings(learning_rate=1e-3), tmp_path / "out")
    with pytest.raises(BadInput, match="is there already"):
        tuning.prepare_process(source.weights, tmp_path)
    with pytest.raises(BadInput, match=r"cannot be written to .* name another folder by --out"):
        tuning.prepare_process(source.weights, Path(__file__) / "out")
    tiny_weights(tmp_path)
    [other] = tmp_path.iterdir()
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["t2"], tokenizer["model"]["vocab"]["t3"] = 3, 2
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BadInput, match="token ids differ"):
        start_weights([source], str(other))
    shutil.rmtree(other)
