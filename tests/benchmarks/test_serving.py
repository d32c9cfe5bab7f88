"""The benchmark of sampling compares the same numbers of tokens. What it needs a vLLM server for is not tested here."""

import re
from pathlib import Path

import pytest

from benchmarks.real_sampling import ROWS, measure_alone, save_model
from benchmarks.rounds import claims_table
from benchmarks.sampling_contest import SamplingContest, pocket_prompts
from benchmarks.server_clients import ClientRun
from benchmarks.serving import BARE, MODELS, in_process, same
from benchmarks.update_cases import LengthCase
from events.facts.errors import ModelError
from roles.pocket import WEIGHTS

SHORT = LengthCase("short", (1, 1), 4, 0.5, 6)


def test_prompts_are_different_and_as_many_as_asked_for() -> None:
    assert len(set(pocket_prompts(12))) == 12


def test_everybody_makes_as_many_tokens_as_asked_for(tmp_path: Path) -> None:
    contest = SamplingContest("pocket", SHORT, pocket_prompts(8), tmp_path)
    assert 8 < contest.tokens < 8 * SHORT.longest
    assert contest.ours() > 0
    assert contest.bare(logprobs=True) > 0


def test_every_model_is_compared_with_every_bare_way() -> None:
    claims = in_process(pocket_prompts(2), [SHORT], 1)
    assert len(claims) == len(MODELS) * len(BARE)
    assert len(re.findall(r"\*\*\d+\.\d\d \(", "\n".join(claims_table(claims)))) == len(claims)


def test_whoever_makes_other_completions_stops_the_benchmark() -> None:
    ours = [ClientRun([3, 5], 1.0, 0.5), ClientRun([3, 5], 2.0, 0.5)]
    assert same({"ours": ours, "theirs": ours[:1]}) == 8
    with pytest.raises(ModelError, match="same completions"):
        same({"ours": ours, "theirs": [ClientRun([5, 3], 1.0, 0.5)]})


def test_a_real_model_is_sampled_in_this_process_and_by_bare_generate(tmp_path: Path) -> None:
    save_model(WEIGHTS, tmp_path)
    for contender in ("ours", "bare"):
        measured = measure_alone(contender, tmp_path, threads=1)
        assert len(measured["rates"]) == len(ROWS)
        assert min(measured["rates"]) > 0
        assert measured["peak"] > 0
