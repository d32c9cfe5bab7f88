"""Makes a validated `Config` from a TOML file and `--set` overrides.

Precedence: `--set key=value`, then the file, then the defaults. Every error is one sentence that names the key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from events.facts.errors import BadInput
from events.text.byte_order_mark import refuse_byte_order_mark
from events.text.validation import first_problem
from graph.settings.config import Config


def configure(file: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration from a TOML file, if there is one, and `key=value` overrides; BadInput if anything is wrong."""
    if file is not None and not file.is_file():
        raise BadInput(f"There is no config file {file}; check the path, or leave it out to use the defaults.")

    class FromFile(Config):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        if file is not None:
            refuse_byte_order_mark(file)
        config_from = FromFile(**settings_tree(overrides))
        return Config(**config_from.model_dump())
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"Config file {file} is not valid TOML: {error}; mend that line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Config file {file} cannot be read: {error}.") from error
    except ValidationError as error:
        raise BadInput(_sentence(error)) from error


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration with `key=value` overrides applied; BadInput if a key is unknown, or a value is out of range."""
    return config_from(merged(config.model_dump(), settings_tree(overrides)))


def config_from(tree: dict[str, Any]) -> Config:
    """The configuration with a nested dict of settings applied to the defaults; BadInput if one is unknown or out of range."""
    try:
        return Config(**tree)
    except ValidationError as error:
        raise BadInput(_sentence(error)) from error


def merged(base: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """`base` with the settings of `tree`, both nested dicts."""
    both = {
        key: merged(base[key], setting_value)
        for key, setting_value in tree.items()
        if isinstance(base.get(key), dict) and isinstance(setting_value, dict)
    }
    return {**base, **tree, **both}


def all_settings(group: BaseModel | None = None, prefix: str = "") -> Iterator[tuple[str, Any, FieldInfo]]:
    """Every setting: dotted key, default, and the field with its description and bounds."""
    group = group or Config()
    for name, field in type(group).model_fields.items():
        default = getattr(group, name)
        if isinstance(default, BaseModel):
            yield from all_settings(default, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", default, field


def setting_value(config: Config, key: str) -> Any:
    """The value of a setting, by its dotted key."""
    return attrgetter(key)(config)


def to_toml(config: Config) -> str:
    """The settings as a TOML file that `configure` reads back."""
    sections: dict[str, dict[str, object]] = {}
    for key, _, _ in all_settings():
        section, _, last = key.rpartition(".")
        # TOML has no null.
        if (set_to := setting_value(config, key)) is not None:
            sections.setdefault(section, {})[last] = set_to
    blocks = []
    for section, values in sorted(sections.items()):
        lines = [f"[{section}]"] if section else []
        lines += [f"{key} = {json.dumps(set_to, ensure_ascii=False)}" for key, set_to in values.items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def settings_tree(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` overrides as a nested dict; BadInput if one is not of this form."""
    tree: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise BadInput(f"--set {override!r} is not of the form key=value, for example --set play.episodes=8.")
        branch = tree
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise BadInput(f"--set {override!r} sets something inside {part!r}, which was already set to a value.")
        branch[path[-1]] = _value(text.strip())
    return tree


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@contextmanager
def naming_setting(setting: str) -> Iterator[None]:
    """Put the setting's name before the message of every `BadInput`."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"Setting {setting}: {error}") from error


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    key, why = first_problem(error)
    if first["type"] == "extra_forbidden":
        close = get_close_matches(key, [name for name, _, _ in all_settings()], n=1)
        hint = f"did you mean {close[0]!r}?" if close else "--settings --all lists them."
        return f"There is no setting {key!r}; {hint}"
    if first["type"] == "value_error" and isinstance(first["input"], BaseModel | dict):
        # A validator of a whole group names its settings in the message; pydantic only names the group.
        group = f"{key}: " if key else ""
        return f"The settings do not fit: {group}{why}; see --settings --all."
    return f"Setting {key!r} cannot be {first['input']!r}: {why}; --settings --all says what it takes."
