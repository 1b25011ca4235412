"""The command line of a training run: METRO's flags, `--preset` and dotted keys to a `TrainConfig`.

Dotted keys are taken out of the arguments before argparse sees them. No METRO flag has a dot, so
the abbreviations that METRO's parsers accept stay unique.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from metro_ray.config.flag_parser import FlagParser, GivenFlag, flag_parser, log_remarks
from metro_ray.config.flags import MODEL_PATH, task_defaults
from metro_ray.config.keys import BOOLEANS, Key, find_key, read_value
from metro_ray.config.load import build_config
from metro_ray.config.presets import read_preset
from metro_ray.config.schema import Kind, TrainConfig
from metro_ray.errors import ConfigError

_DOTTED = re.compile(r"--([A-Za-z_][\w-]*(?:\.[\w-]+)+)(?:=(.*))?", re.DOTALL)
_NEGATIVE = re.compile(r"-\.?\d|-inf$|-nan$")


class Setting(NamedTuple):
    """One value given for a dotted key."""

    key: str
    value: Any
    spelled: str
    """As the user wrote it."""


def parse_train(kind: Kind, argv: Sequence[str], prog: str | None = None) -> TrainConfig:
    """The configuration of a run from its command line.

    METRO's defaults of the task < `--preset` < METRO's flags and dotted keys. A METRO flag given
    twice counts as it was given last, as in METRO; anything else given twice must agree.

    Args:
        kind: "body" or "hand".
        argv: Arguments without the program's name.
        prog: Name of the program in the usage line.

    Raises:
        ConfigError: An unknown key, an impossible value, or two values for one key.
        SystemExit: 0 after --help; 2 after a usage error, as argparse does.
    """
    given = _given_settings(kind, flag_parser(kind, prog), argv)
    return build_config(kind, task_defaults(kind) | given)


def parse_given(kind: Kind, argv: Sequence[str], purpose: str) -> dict[str, Any]:
    """What the command line of a job says that takes the rest from a checkpoint, by dotted key.

    `--model_path` is METRO's other name of `--resume_checkpoint`.

    Args:
        kind: "body" or "hand".
        argv: Arguments without the program's name.
        purpose: What the job does, for --help.

    Raises:
        ConfigError, SystemExit: As `parse_train`.
    """
    parser = flag_parser(kind, purpose=purpose, more=[MODEL_PATH])
    given = _given_settings(kind, parser, argv)
    build_config(kind, task_defaults(kind) | given)  # refuses impossible values
    return given


def split_dotted(argv: Sequence[str]) -> tuple[list[str], list[Setting]]:
    """Take `--section.key value`, `--section.key=value` and bare switches out of the arguments.

    Returns:
        The other arguments, and the settings in their order.

    Raises:
        ConfigError: An unknown key, a key without a value, or text that cannot be its value.
    """
    rest: list[str] = []
    settings: list[Setting] = []
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        match = _DOTTED.fullmatch(token)
        if token == "--" or match is None:
            rest.append(token)
            if token == "--":
                rest += tokens
                break
            continue
        key = find_key(match[1])
        text = match[2] if match[2] is not None else _take_value(key, tokens)
        settings.append(Setting(key.name, read_value(key, text), f"--{key.name} {text}"))
    return rest, settings


def merge(settings: Iterable[Setting]) -> dict[str, Any]:
    """Settings as a mapping by dotted key.

    Raises:
        ConfigError: A key has two different values.
    """
    merged: dict[str, Setting] = {}
    for setting in settings:
        first = merged.setdefault(setting.key, setting)
        if first is not setting and first.value != setting.value:
            raise ConfigError(
                f"{setting.key} is set twice: {first.spelled!r} and {setting.spelled!r}; keep one"
            )
    return {name: setting.value for name, setting in merged.items()}


def _given_settings(kind: Kind, parser: FlagParser, argv: Sequence[str]) -> dict[str, Any]:
    """What the arguments and the preset that they name say."""
    rest, dotted = split_dotted(argv)
    given = parser.parse_args(rest)
    log_remarks(given.flags)
    settings = {} if given.preset is None else read_preset(given.preset, kind)
    levels = (task_defaults(kind) | settings)["loss.levels"]
    return settings | merge(_flag_settings(given.flags, levels) + dotted)


def _take_value(key: Key, tokens: list[str]) -> str:
    has_value = bool(tokens) and (not tokens[0].startswith("-") or _NEGATIVE.match(tokens[0]))
    if key.type is bool and not (has_value and tokens[0].lower() in BOOLEANS):
        return "true"
    if not has_value:
        raise ConfigError(f"--{key.name} needs a value: {key.expected}")
    return tokens.pop(0)


def _flag_settings(given: Iterable[GivenFlag], levels: Sequence[float]) -> list[Setting]:
    """METRO's flags as settings; the weights of single mesh levels change the given `levels`."""
    settings: list[Setting] = []
    weights, spelled = list(levels), []
    for item in given:
        if item.flag.level is not None:
            if -item.flag.level > len(weights):
                raise ConfigError(f"{item.spelled} has no level in loss.levels {tuple(levels)}")
            weights[item.flag.level] = item.value
            spelled.append(item.spelled)
        elif item.flag.key is not None:
            value = item.flag.value(item.value)
            settings.append(Setting(item.flag.key, value, item.spelled))
    if spelled:
        settings.append(Setting("loss.levels", tuple(weights), " ".join(spelled)))
    return settings
