"""Search spaces: which settings a sweep varies, and within what.

A space is YAML over dotted keys. Each key has one distribution, or a plain value for all trials:

    optim.lr: {loguniform: [1.0e-5, 1.0e-3]}
    model.num_hidden_layers: {choice: [2, 4, 6]}
    optim.schedule: cosine
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

from metro_ray.config.keys import Key, find_key, read_value, sections
from metro_ray.errors import ConfigError

Distribution = Literal["uniform", "loguniform", "quniform", "randint", "choice", "grid"]
_DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
_LISTS = ("choice", "grid")
_NUM_ARGUMENTS = {"uniform": 2, "loguniform": 2, "quniform": 3, "randint": 2}
_SHAPES = {
    "uniform": "[lowest, highest]",
    "loguniform": "[lowest, highest], both above 0",
    "quniform": "[lowest, highest, step], the step above 0",
    "randint": "[lowest, highest], whole numbers, both of which may be drawn",
}

_NOT_SEARCHED = {
    "run": "each trial has its own folder and the rest of run.* is the same for all",
    "scaling": "all trials take the same share of the cluster",
    "eval": "trials must be measured alike",
    "views": "it belongs to prediction",
    "assets": "all trials use the same model files",
    "model.mesh": "errors of different meshes cannot be compared",
    "data.val_yaml": "trials must be measured on the same images",
    "data.synth_train": "rendered images are made once, before the trials",
    "data.synth_val": "rendered images are made once, before the trials",
    "data.synth_view": "rendered images are made once, before the trials",
    "data.synth_setting": "rendered images are made once, before the trials",
    "optim.epochs": "it is the budget of every trial: set it on the command line",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One setting that is varied."""

    key: str
    distribution: Distribution
    low: float = math.nan
    high: float = math.nan
    step: float = math.nan
    """Of `quniform`; values are low + n x step."""
    values: tuple[Any, ...] = ()
    """Of `choice` and `grid`, as the setting's type."""
    is_whole: bool = False
    """Whether drawn numbers are integers."""

    @property
    def is_list(self) -> bool:
        """Whether there are finitely many values, by name."""
        return self.distribution in _LISTS

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values of a list, or the lowest and highest number."""
        return self.values if self.is_list else (self.number(self.low), self.number(self.high))

    @property
    def text(self) -> str:
        """As it stands in a file."""
        if self.is_list:
            return f"{self.distribution} {list(map(_plain, self.values))}"
        step = f", {self.step:g}" if self.distribution == "quniform" else ""
        return f"{self.distribution} [{self.low:g}, {self.high:g}{step}]"

    def number(self, value: float) -> float | int:
        """A number of this dimension as its setting takes it."""
        return round(value) if self.is_whole else float(value)

    def draw(self, rng: random.Random) -> Any:
        """One value."""
        if self.is_list:
            return rng.choice(self.values)
        if self.distribution == "randint":
            return rng.randint(round(self.low), round(self.high))
        if self.distribution == "quniform":
            return self.number(self.low + self.step * rng.randint(0, self.num_steps))
        if self.distribution == "loguniform":
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(drawn, self.low), self.high)
        return rng.uniform(self.low, self.high)

    @property
    def num_steps(self) -> int:
        """Steps of `quniform` between the lowest and the highest value."""
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def contains(self, value: Any) -> bool:
        """Whether `value` may be drawn."""
        if self.is_list:
            return value in self.values
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.distribution != "quniform":
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-6


class Space(NamedTuple):
    """What a sweep varies."""

    dimensions: tuple[Dimension, ...]
    fixed: dict[str, Any]
    """Settings with one value for all trials, by dotted key."""

    @property
    def num_grid_points(self) -> int | None:
        """Combinations of all lists; None where a dimension is no list."""
        if not all(dimension.is_list for dimension in self.dimensions):
            return None
        return math.prod(len(dimension.values) for dimension in self.dimensions)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of the lists, the last key changing fastest."""
        names = [dimension.key for dimension in self.dimensions]
        for values in product(*(dimension.values for dimension in self.dimensions)):
            yield dict(zip(names, values, strict=True))

    def draw(self, rng: random.Random) -> dict[str, Any]:
        """One value for each dimension."""
        return {dimension.key: dimension.draw(rng) for dimension in self.dimensions}

    def to_dict(self) -> dict[str, Any]:
        """As `parse_space` reads it back."""
        tree: dict[str, Any] = {}
        for dimension in self.dimensions:
            numbers = [dimension.low, dimension.high, dimension.step]
            used = numbers[: _NUM_ARGUMENTS.get(dimension.distribution, 0)]
            values = list(map(_plain, dimension.values)) or used
            tree[dimension.key] = {dimension.distribution: values}
        return tree | {key: _plain(value) for key, value in self.fixed.items()}


def parse_space(tree: Mapping[Any, Any], where: str) -> tuple[Space, list[str]]:
    """Read a space; what is wrong with it is listed, not raised.

    Args:
        tree: Distributions by dotted key, or by section and key.
        where: Named in each problem: a file.

    Returns:
        The space of everything that is right, and the problems.
    """
    dimensions: list[Dimension] = []
    fixed: dict[str, Any] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for name, spec in _flat(tree):
        try:
            key = find_key(name)
            _require_searchable(key)
            if name in seen:
                raise ConfigError(f"{name} is there twice")
            seen.add(name)
            if isinstance(spec, Mapping):
                dimensions.append(_dimension(key, spec))
            else:
                fixed[name] = read_value(key, spec)
        except ConfigError as error:
            problems.append(f"{where}: {error}")
    if not dimensions and not problems:
        problems.append(
            f"{where}: nothing is varied; give a key a distribution, as "
            "optim.lr: {loguniform: [1.0e-5, 1.0e-3]}"
        )
    return Space(tuple(dimensions), fixed), problems


def values_from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key after a way through JSON, which has no tuples."""
    return {name: read_value(find_key(name), value) for name, value in values.items()}


def _flat(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if name in sections() and isinstance(value, Mapping):
            yield from ((f"{name}.{field}", item) for field, item in value.items())
        else:
            yield str(name), value


def _require_searchable(key: Key) -> None:
    section = key.name.partition(".")[0]
    reason = _NOT_SEARCHED.get(key.name) or _NOT_SEARCHED.get(section)
    if reason is not None:
        raise ConfigError(f"{key.name} is not for a search space: {reason}")


def _dimension(key: Key, spec: Mapping[Any, Any]) -> Dimension:
    names = list(spec)
    if len(names) != 1 or names[0] not in _DISTRIBUTIONS:
        raise ConfigError(
            f"{key.name} must have one of {', '.join(_DISTRIBUTIONS)}, got {dict(spec)!r}"
        )
    [(distribution, arguments)] = spec.items()
    if not isinstance(arguments, list | tuple):
        raise ConfigError(f"{key.name}: {distribution} needs a list, got {arguments!r}")
    if distribution in _LISTS:
        return Dimension(
            key=key.name, distribution=distribution, values=_list_values(key, arguments)
        )
    return _range(key, distribution, arguments)


def _list_values(key: Key, arguments: Sequence[Any]) -> tuple[Any, ...]:
    values = tuple(read_value(key, value) for value in arguments)
    if not values or any(value in values[:place] for place, value in enumerate(values)):
        raise ConfigError(f"{key.name} must have one or more different values, got {arguments!r}")
    return values


def _range(key: Key, distribution: Distribution, arguments: Sequence[Any]) -> Dimension:
    if key.type not in (int, float):
        raise ConfigError(
            f"{key.name} is {key.expected}: use choice, {distribution} is for numbers"
        )
    if key.type is int and distribution in ("uniform", "loguniform"):
        raise ConfigError(f"{key.name} is a whole number: use randint or choice")
    wrong = f"{key.name}: {distribution} must be {_SHAPES[distribution]}, got {list(arguments)!r}"
    try:
        numbers = [float(argument) for argument in arguments]
    except (TypeError, ValueError):
        raise ConfigError(wrong) from None
    is_whole = key.type is int or distribution == "randint"
    fits = len(numbers) == _NUM_ARGUMENTS[distribution] and all(map(math.isfinite, numbers))
    fits = fits and numbers[0] < numbers[1] and not any(isinstance(a, bool) for a in arguments)
    if fits:
        fits = distribution != "loguniform" or numbers[0] > 0
        fits = fits and (len(numbers) < 3 or 0 < numbers[2] <= numbers[1] - numbers[0])
        fits = fits and (not is_whole or all(number.is_integer() for number in numbers))
    if not fits:
        raise ConfigError(wrong)
    step = numbers[2] if len(numbers) == 3 else math.nan
    return Dimension(
        key=key.name,
        distribution=distribution,
        low=numbers[0],
        high=numbers[1],
        step=step,
        is_whole=is_whole,
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
