"""Search spaces by name or path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metro_ray.config.presets import PRESET_FOLDER, read_yaml
from metro_ray.config.schema import Kind
from metro_ray.config.space import Space, parse_space
from metro_ray.errors import ConfigError

SPACE_FOLDER = PRESET_FOLDER / "sweeps"


def list_spaces() -> dict[str, str]:
    """The shipped search spaces: name and what their first lines say."""
    spaces = {}
    for path in sorted(SPACE_FOLDER.glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = [line[1:].strip() for line in lines if line.startswith("#")]
        spaces[path.stem] = " ".join(comment)
    return spaces


def read_spaces(names: Sequence[str], kind: Kind) -> tuple[Space, list[str]]:
    """The keys of several search spaces as one, and all that is wrong with them."""
    dimensions, fixed, problems = [], {}, []
    for name in names:
        try:
            tree = read_yaml(_find_space(name))
        except ConfigError as error:
            problems.append(str(error))
            continue
        its_kind = tree.pop("kind", kind)
        if its_kind != kind:
            problems.append(f"search space {name} is for kind {its_kind!r}, this sweep for {kind}")
        space, wrong = parse_space(tree, f"search space {name}")
        problems += wrong
        taken = {dimension.key for dimension in dimensions} | fixed.keys()
        own = {dimension.key for dimension in space.dimensions} | space.fixed.keys()
        problems += [f"search space {name}: {key} is in another one too" for key in taken & own]
        dimensions += space.dimensions
        fixed |= space.fixed
    return Space(tuple(dimensions), fixed), problems


def _find_space(name: str) -> Path:
    shipped = SPACE_FOLDER / f"{name}.yaml"
    if name.isidentifier() and shipped.is_file():
        return shipped
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"unknown search space {name}; use a path to a .yaml file or one of: "
            f"{', '.join(list_spaces())}"
        )
    if not path.is_file():
        raise ConfigError(f"search space not found: {path}")
    return path
