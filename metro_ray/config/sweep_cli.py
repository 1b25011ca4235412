"""The command line of a sweep: a run's, `--tune.*` and `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, get_type_hints

from metro_ray.config.cli import parse_train
from metro_ray.config.keys import BOOLEANS, Key, field_texts, make_key, read_value
from metro_ray.config.schema import Kind, TrainConfig
from metro_ray.config.space import Space
from metro_ray.config.space_files import read_spaces
from metro_ray.config.sweep import SweepConfig
from metro_ray.config.sweep_check import check_search, check_space
from metro_ray.errors import ConfigError

_PREFIX = "--tune."


class SweepRequest(NamedTuple):
    """What a command line asks for."""

    base: TrainConfig
    """Settings of every trial where the space says nothing else; `run.output_dir` is the sweep's
    folder."""
    sweep: SweepConfig
    space: Space
    dry_run: bool


def parse_tune(kind: Kind, argv: Sequence[str], prog: str | None = None) -> SweepRequest:
    """A sweep from its command line, checked as far as that goes without opening anything.

    Args:
        kind: "body" or "hand".
        argv: `parse_train`'s arguments, `--tune.NAME VALUE` and `--dry-run`.
        prog: Name of the program in the usage line.

    Raises:
        ConfigError: All that is wrong with the space, one line each; or as `parse_train`.
        SystemExit: As `parse_train`.
    """
    rest, settings, dry_run = _split(argv)
    if any(word in ("-h", "--help") for word in rest):
        print(tune_help())  # noqa: T201 - argparse prints the rest and ends
    base = parse_train(kind, rest, prog)
    sweep = _sweep_config(settings)
    space, problems = read_spaces(sweep.space, kind)
    problems += check_space(base, space)
    problems += check_search(base, sweep, space)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return SweepRequest(base, sweep, space, dry_run)


def tune_help() -> str:
    """The settings of a sweep for --help."""
    texts = field_texts(SweepConfig)
    lines = ["the sweep (--tune.NAME VALUE; --dry-run lists trials and starts nothing):"]
    for name, key in _keys().items():
        lines.append(f"    {_PREFIX}{name}  {key.expected}; default {_shown(key.default)}")
        lines.append(f"        {texts[name]}")
    return "\n".join(lines) + "\n"


def _keys() -> dict[str, Key]:
    hints = get_type_hints(SweepConfig)
    return {
        field.name: make_key(f"tune.{field.name}", hints[field.name], field.default)
        for field in fields(SweepConfig)
    }


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, Any], bool]:
    """Take what belongs to the sweep out of the arguments."""
    keys = _keys()
    rest: list[str] = []
    settings: dict[str, Any] = {}
    dry_run = False
    tokens = list(argv)
    while tokens:
        token = tokens.pop(0)
        if token == "--dry-run":
            dry_run = True
        elif token.startswith(_PREFIX):
            name, equals, text = token.removeprefix(_PREFIX).partition("=")
            if name not in keys:
                raise ConfigError(
                    f"unknown setting tune.{name}. Settings of tune: {', '.join(keys)}"
                )
            key = keys[name]
            if not equals:
                text = _next_value(key, tokens)
            value = read_value(key, text)
            if settings.setdefault(name, value) != value:
                raise ConfigError(f"tune.{name} is set twice: {settings[name]} and {value}")
        else:
            rest.append(token)
    return rest, settings, dry_run


def _next_value(key: Key, tokens: list[str]) -> str:
    has_value = bool(tokens) and not tokens[0].startswith("--")
    if key.type is bool and not (has_value and tokens[0].lower() in BOOLEANS):
        return "true"
    if not has_value:
        raise ConfigError(f"--{key.name} needs a value: {key.expected}")
    return tokens.pop(0)


def _sweep_config(settings: Mapping[str, Any]) -> SweepConfig:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(SweepConfig).validate_python(dict(settings))
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            reason = problem.get("ctx", {}).get("error")
            name = str(problem["loc"][0]) if problem["loc"] else ""
            expected = _keys()[name].expected if name else problem["msg"]
            lines.append(
                str(reason)
                if isinstance(reason, ConfigError)
                else f"tune.{name} must be {expected}, got {problem['input']!r}"
            )
        raise ConfigError("\n".join(lines)) from None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
