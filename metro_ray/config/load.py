"""From settings by dotted key to one checked `TrainConfig`, and back to YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from metro_ray.config.flags import task_defaults
from metro_ray.config.keys import all_keys, find_key, flatten, nest, read_value
from metro_ray.config.presets import read_preset
from metro_ray.config.schema import Kind, TrainConfig
from metro_ray.config.secrets import require_no_secret
from metro_ray.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


def load_config(
    kind: Kind, preset: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The settings of a run: METRO's defaults of the task < preset < overrides.

    Args:
        kind: "body" or "hand".
        preset: Name of a shipped preset or path of a YAML file.
        overrides: Values by dotted key, typed or as text: `{"optim.lr": "3e-4"}`.

    Raises:
        ConfigError: An unknown key or preset, or an impossible value; one line for each.
    """
    _require_kind(kind)
    settings = task_defaults(kind)
    if preset is not None:
        settings |= read_preset(preset, kind)
    return build_config(kind, settings | dict(overrides or {}))


def build_config(kind: Kind, settings: Mapping[str, Any]) -> TrainConfig:
    """A checked configuration of settings by dotted key over the schema's own defaults.

    Raises:
        ConfigError: An unknown key or an impossible value; one line for each.
    """
    from pydantic import ValidationError

    problems: list[str] = []
    typed: dict[str, Any] = {}
    for name, value in settings.items():
        try:
            require_no_secret(name, value)
            typed[name] = read_value(find_key(name), value)
        except ConfigError as error:
            problems.append(str(error))
    try:
        config = _adapter().validate_python(nest(typed, {"kind": kind}))
    except ValidationError as error:
        problems.extend(_explain(error))
        raise _joined(problems) from None
    if problems:
        raise _joined(problems)
    return config


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The configuration as nested dictionaries of plain JSON and YAML values."""
    tree = asdict(config)
    for section in tree.values():
        if isinstance(section, dict):
            section.update({k: list(v) for k, v in section.items() if isinstance(v, tuple)})
    return tree


def from_dict(tree: Mapping[str, Any]) -> TrainConfig:
    """The configuration of `to_dict`; settings that are not there get the defaults of the task.

    Raises:
        ConfigError: No `kind`, an unknown key or an impossible value.
    """
    settings = dict(tree)
    kind = settings.pop("kind", None)
    _require_kind(kind)
    return build_config(kind, task_defaults(kind) | flatten(settings, "configuration"))


def dump_yaml(config: TrainConfig) -> str:
    """The configuration as YAML that `--preset FILE` reads back to an equal one."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=None)


def diff_from_default(config: TrainConfig) -> dict[str, Any]:
    """The settings by dotted key that differ from the defaults of the configuration's task."""
    return diff(config, load_config(config.kind))


def diff(config: TrainConfig, other: TrainConfig) -> dict[str, Any]:
    """The settings by dotted key that differ from those of another configuration."""
    return {
        name: value_of(config, name)
        for name in all_keys()
        if name != "run.preset" and value_of(config, name) != value_of(other, name)
    }


def flat_dict(config: TrainConfig) -> dict[str, Any]:
    """All settings by dotted key."""
    return {name: value_of(config, name) for name in all_keys()}


def value_of(config: TrainConfig, name: str) -> Any:
    """The value of a setting by its dotted key.

    Raises:
        ConfigError: Unknown key.
    """
    section, _, field = find_key(name).name.partition(".")
    return getattr(getattr(config, section), field)


@cache
def _adapter() -> TypeAdapter[TrainConfig]:
    from pydantic import TypeAdapter

    return TypeAdapter(TrainConfig)


def _require_kind(kind: object) -> None:
    if kind not in get_args(Kind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")


def _explain(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        reason = problem.get("ctx", {}).get("error")
        if isinstance(reason, ConfigError):
            yield str(reason)
            continue
        name = ".".join(str(part) for part in problem["loc"][:2])
        key = all_keys().get(name)
        expected = key.expected if key else problem["msg"]
        if problem["type"] == "finite_number":
            expected = "finite"
        yield f"{name} must be {expected}, got {problem['input']!r}"


def _joined(problems: list[str]) -> ConfigError:
    return ConfigError("\n".join(dict.fromkeys(problems)))
