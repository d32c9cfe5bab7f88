from __future__ import annotations

import json

import pytest

from events.facts.errors import BadInput
from graph.settings.config import Config
from graph.settings.configure import all_settings, configure
from graph.settings.upcast import removed_settings
from tests.support.paths import ROOT


def test_overrides_beat_the_file_and_the_file_beats_defaults(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("seed = 3\n[play]\nepisodes = 2\niterations = 7\n")
    config = configure(file, ["play.iterations=1", "learn.learning_rate=3e-4"])
    assert (config.seed, config.play.episodes, config.play.iterations, config.learn.learning_rate) == (3, 2, 1, 3e-4)
    assert config.play.attempts == Config().play.attempts


def test_the_environment_changes_nothing(monkeypatch):
    monkeypatch.setenv("SEED", "9")
    monkeypatch.setenv("seed", "9")
    assert configure(None, []) == Config()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("play.epsodes=4", ["play.epsodes", "did you mean 'play.episodes'"]),
        ("nothing=4", ["no setting 'nothing'", "--settings"]),
        ("play.episodes=many", ["play.episodes", "'many'", "integer"]),
        ("play.episodes=-1", ["play.episodes", "-1"]),
        ("recipe=alphazero", ["recipe", "alphazero", "gasp"]),
        ("seed", ["key=value"]),
        ("seed.x.y=1", ["seed"]),
    ],
)
def test_a_bad_override_is_one_sentence_that_names_the_key(override, words):
    with pytest.raises(BadInput) as caught:
        configure(None, [override])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_byte_order_mark_before_toml_is_named(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("\ufeffseed = 1\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"c\.toml begins with a byte order mark \(BOM\); save it as UTF-8 without one\."):
        configure(file, [])


def test_broken_toml_names_file_and_line(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("seed = 1\nplay = [\n")
    with pytest.raises(BadInput, match=r"c\.toml.*line"):
        configure(file, [])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="no config file"):
        configure(tmp_path / "absent.toml", [])


def test_every_setting_is_described():
    assert [key for key, _, field in all_settings() if not field.description] == []


@pytest.mark.parametrize("override", ["learn.clip_high=0.6", "learn.loss=sapo"])
def test_a_delta_without_effect_is_refused(override):
    assert configure(None, ["learn.delta=1.5"]).learn.delta == 1.5
    with pytest.raises(BadInput, match="delta"):
        configure(None, ["learn.delta=1.5", override])


def test_parts_without_processes_to_hold_them_are_refused():
    assert configure(None, ["learn.processes=2", "learn.shard=zero3"]).learn.shard == "zero3"
    with pytest.raises(BadInput, match="processes"):
        configure(None, ["learn.shard=zero3"])


def test_a_config_survives_the_log():
    config = configure(None, ["play.episodes=3", "goalposts=x.jsonl"])
    assert Config(**config.model_dump(mode="json")) == config


def test_a_run_of_the_version_with_99_settings_still_loads():
    recorded = json.loads((ROOT / "tests" / "golden" / "settings-99.json").read_text())
    config = Config.recorded(recorded)
    assert config == configure(ROOT / "configs" / "paper-7b-4xh100.toml", [])
    assert removed_settings(recorded) == ["serve.timeout_s"], "it was 1200, and is 600 now"
    assert removed_settings(config.model_dump(mode="json")) == []


def test_the_settings_of_older_logs_are_read_in_the_units_of_today():
    today = Config().model_dump(mode="json")
    old = {**today, "serve": {**today["serve"], "memory": 0.25}}
    del old["serve"]["gpu_memory"], old["serve"]["kv_cache_gib"], old["threads"]
    config = Config.recorded(old)
    assert (config.serve.gpu_memory, config.serve.kv_cache_gib) == (0.25, 0.25)
    assert Config.recorded(today) == Config() == Config.recorded({})
    with pytest.raises(BadInput, match=r"no setting 'serve.memory'; did you mean 'serve.gpu_memory'"):
        configure(None, ["serve.memory=0.5"])
    assert configure(None, ["serve.kv_cache_gib=12"]).serve.kv_cache_gib == 12
