"""Every setting takes what it is given, or refuses it in one sentence that names it, before anything is started."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from events.facts.errors import BadInput
from graph.estimate.plan import plan
from graph.estimate.token_estimate import count_evaluations, count_iterations, tokens_of_iteration
from graph.settings.config import Config
from graph.settings.configure import all_settings, configure, setting_value

ABSURD = (
    *("0", "-1", "1e9", "1e400", "nan", "-inf", "9223372036854775808", "1e308", "5e-324", "1.5"),
    *("true", "[]", "{}", "'x'", "", '"a\\u0000b"'),
)
KEYS = [key for key, _, _ in all_settings()]


@pytest.mark.parametrize("key", KEYS)
def test_an_absurd_value_is_taken_or_refused_by_name(key):
    for text in ABSURD:
        sentence = refusal(f"{key}={text}")
        assert sentence is None or (key.rpartition(".")[2] in sentence and "\n" not in sentence and len(sentence) < 500)
        assert ".;" not in (sentence or "")


def refusal(setting: str) -> str | None:
    try:
        configure(None, [setting])
    except BadInput as error:
        return str(error)
    return None


def test_true_is_no_number():
    usual = Config()
    for key in KEYS:
        is_number = isinstance(setting_value(usual, key), int | float) and not isinstance(setting_value(usual, key), bool)
        if is_number or key in ("learn.clip_high", "learn.delta", "learn.drift", "learn.teacher_learning_rate"):
            with pytest.raises(BadInput, match=rf"{key} is a number, and cannot be true"):
                configure(None, [f"{key}=true"])


def test_a_file_is_held_to_the_same(tmp_path: Path):
    (tmp_path / "x.toml").write_text("[play]\niterations = true\n")
    with pytest.raises(BadInput, match=r"play\.iterations is a number"):
        configure(tmp_path / "x.toml", [])


def test_evaluations_are_counted_without_counting():
    chance = random.Random(0)
    for _ in range(100):
        config = configure(
            None,
            [
                f"play.iterations={chance.choice([0, 1, 2, 7, 40, 133])}",
                f"evaluate.every={chance.choice([0, 1, 2, 3, 7, 50])}",
                f"evaluate.every_samples={chance.choice([0, 1, 100, 977, 1500, 10000])}",
                f"play.episodes={chance.randint(0, 20)}",
                f"evaluate.first={chance.choice(['true', 'false'])}",
            ],
        )
        last, each, how = count_iterations(config), tokens_of_iteration(config).answers, config.evaluate
        due = {n for n in range(1, last) if how.every and n % how.every == 0}
        due |= {
            n
            for n in range(1, last)
            if how.every_samples and n * each // how.every_samples > (n - 1) * each // how.every_samples
        }
        assert count_evaluations(config) == len({0, last} | due) - (last > 0 and not how.first)
    endless = configure(None, ["play.iterations=1e9", "evaluate.every=3", "evaluate.every_samples=1000"])
    assert any("1000000000" in line for line in plan(endless))
