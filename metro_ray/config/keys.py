"""Dotted keys: every setting of the schema by name, with its type, default and help."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from metro_ray.config import schema
from metro_ray.errors import ConfigError

BOOLEANS: dict[str, bool] = dict.fromkeys(("true", "yes", "on", "1"), True)
BOOLEANS |= dict.fromkeys(("false", "no", "off", "0"), False)
"""Words for the two values of a switch."""
_NONE = ("none", "null")
_NAMES: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "text",
}


class Key(NamedTuple):
    """One setting."""

    name: str
    """Dotted: `optim.lr`."""
    type: Any
    """Resolved annotation without None: float, `tuple[int, ...]`, `Literal[...]`."""
    is_optional: bool
    """Whether None is a value."""
    default: Any
    """Of the schema: METRO's for bodies."""

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return _describe(self.type) + (" or none" if self.is_optional else "")


@cache
def all_keys() -> dict[str, Key]:
    """Every setting by dotted key, in the schema's order (`kind` is not a setting)."""
    keys: dict[str, Key] = {}
    for name, section in sections().items():
        hints = get_type_hints(section)
        for field in fields(section):
            default = field.default
            assert default is not MISSING, f"{name}.{field.name} has no plain default"
            dotted = f"{name}.{field.name}"
            keys[dotted] = make_key(dotted, hints[field.name], default)
    return keys


def make_key(name: str, hint: Any, default: Any) -> Key:
    """The setting of an annotated field."""
    type_, is_optional = _split_none(hint)
    return Key(name, type_, is_optional, default)


@cache
def sections() -> dict[str, Any]:
    """The dataclass of each section by its name."""
    hints = get_type_hints(schema.TrainConfig)
    return {name: hint for name, hint in hints.items() if name in _section_names()}


@cache
def _section_names() -> frozenset[str]:
    return frozenset(f.name for f in fields(schema.TrainConfig) if f.default_factory is not MISSING)


def help_texts() -> dict[str, str]:
    """The docstring under each field of the schema by dotted key, as one line."""
    return {
        f"{section}.{name}": text
        for section, cls in sections().items()
        for name, text in field_texts(cls).items()
    }


def field_texts(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass by its name, as one line."""
    import ast
    import inspect

    texts: dict[str, str] = {}
    [tree] = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    for node, after in pairwise(tree.body):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            texts[node.target.id] = " ".join(str(after.value.value).split())
    return texts


def find_key(name: str) -> Key:
    """The setting of this dotted key.

    Raises:
        ConfigError: There is none; the message has the near ones and those of its section.
    """
    keys = all_keys()
    if name not in keys:
        raise ConfigError(_unknown(name))
    return keys[name]


def read_value(key: Key, value: Any) -> Any:
    """A value as written (text of a command line, YAML) turned into the key's type.

    YAML reads `1e-4` as text, and the command line has nothing but text; so text is converted here.
    Other values pass: the schema's own validation judges them.

    Raises:
        ConfigError: Text that is no such value, or true/false for a number.
    """
    if isinstance(value, str):
        if key.is_optional and value.lower() in _NONE:
            return None
        return _read_text(key, key.type, value)
    if isinstance(value, bool) and key.type in (int, float):
        raise _mismatch(key, value)
    if get_origin(key.type) is tuple and isinstance(value, list | tuple):
        item = get_args(key.type)[0]
        if any(isinstance(element, bool) for element in value):
            raise _mismatch(key, value)
        return tuple(_read_text(key, item, e) if isinstance(e, str) else e for e in value)
    return value


def flatten(tree: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """A nested mapping (YAML, JSON) as dotted keys; dotted keys in it stay as they are.

    Args:
        tree: Sections with settings.
        where: Named in errors: a file.

    Raises:
        ConfigError: An unknown key, a section that is no mapping, a setting that is one, or a
            setting that is there twice.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if name in sections():
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where}: {name} must be a section of settings, got {value!r}")
            inner = {f"{name}.{field}": item for field, item in value.items()}
        else:
            inner = {str(name): value}
        for dotted, item in inner.items():
            if dotted not in all_keys():
                raise ConfigError(f"{where}: {_unknown(dotted)}")
            if isinstance(item, Mapping):
                raise ConfigError(f"{where}: {dotted} must be a value, got the section {item!r}")
            if dotted in flat:
                raise ConfigError(f"{where}: {dotted} is set twice")
            flat[dotted] = item
    return flat


def nest(overrides: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Dotted keys put into a nested mapping; `base` gives what they do not say and is not changed.

    Raises:
        ConfigError: An unknown key.
    """
    tree: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in (base or {}).items()
    }
    for dotted, value in overrides.items():
        section, _, field = find_key(dotted).name.partition(".")
        tree.setdefault(section, {})[field] = value
    return tree


def _unknown(name: str) -> str:
    import difflib

    keys = all_keys()
    section, _, field = name.rpartition(".")
    near = [key for key in keys if key.rpartition(".")[2] == field]
    near += difflib.get_close_matches(name, keys.keys() - near, n=3, cutoff=0.7)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    if section in sections():
        names = (key.rpartition(".")[2] for key in keys if key.startswith(f"{section}."))
        return f"unknown setting {name}. {hint}Settings of {section}: {', '.join(names)}"
    return f"unknown setting {name}. {hint}Sections: {', '.join(sections())}"


def _split_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return inner, True
    return hint, False


def _describe(type_: Any) -> str:
    if get_origin(type_) is Literal:
        return "one of " + ", ".join(map(str, get_args(type_)))
    if get_origin(type_) is tuple:
        return "a list of " + _NAMES[get_args(type_)[0]].removeprefix("a ") + "s"
    return _NAMES[type_]


def _read_text(key: Key, type_: Any, text: str) -> Any:
    if get_origin(type_) is tuple:
        inside = text.strip().removeprefix("[").removesuffix("]").strip()
        items = inside.split(",") if inside else []
        return tuple(_read_text(key, get_args(type_)[0], item.strip()) for item in items)
    if type_ is bool:
        if text.lower() not in BOOLEANS:
            raise _mismatch(key, text)
        return BOOLEANS[text.lower()]
    if type_ in (int, float):
        try:
            return type_(text)
        except ValueError:
            raise _mismatch(key, text) from None
    return text


def _mismatch(key: Key, value: object) -> ConfigError:
    return ConfigError(f"{key.name} must be {key.expected}, got {value!r}")
