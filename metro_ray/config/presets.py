"""Presets: YAML files with some settings, shipped by name or given by path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from metro_ray.config.keys import flatten
from metro_ray.config.schema import Kind
from metro_ray.errors import ConfigError

PRESET_FOLDER = Path(__file__).parent.parent / "presets"
_SUFFIXES = (".yaml", ".yml")


class Preset(NamedTuple):
    """A shipped preset."""

    name: str
    kind: Kind | None
    """Task it is for; None: either."""
    description: str
    path: Path


def list_presets() -> list[Preset]:
    """The shipped presets by name."""
    presets = []
    for path in sorted(PRESET_FOLDER.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comment = [line[1:].strip() for line in _leading_comment(text)]
        presets.append(Preset(path.stem, read_yaml(path).get("kind"), " ".join(comment), path))
    return presets


def read_preset(preset: str | Path, kind: Kind) -> dict[str, Any]:
    """The settings of a preset by dotted key; `run.preset` is its name, where it tells no other.

    Args:
        preset: Name of a shipped one, or path of a YAML file.
        kind: Task it is wanted for.

    Raises:
        ConfigError: No such preset, one for the other task, not YAML, or an unknown setting.
    """
    path = _find(preset)
    tree = read_yaml(path)
    its_kind = tree.pop("kind", kind)
    if its_kind != kind:
        others = [p.name for p in list_presets() if p.kind in (kind, None)]
        raise ConfigError(
            f"preset {preset} is for kind {its_kind!r}, this run is for {kind!r}; "
            f"presets for it: {', '.join(others)}"
        )
    return {"run.preset": str(preset)} | flatten(tree, f"preset {preset}")


def _find(preset: str | Path) -> Path:
    shipped = PRESET_FOLDER / f"{preset}.yaml"
    if isinstance(preset, str) and preset.isidentifier() and shipped.is_file():
        return shipped
    path = Path(preset)
    if path.suffix not in _SUFFIXES:
        names = ", ".join(p.name for p in list_presets())
        raise ConfigError(
            f"unknown preset {preset!s}; use a path to a .yaml file or one of: {names}"
        )
    if not path.is_file():
        raise ConfigError(f"preset file not found: {path}")
    return path


def read_yaml(path: Path) -> dict[Any, Any]:
    """A mapping from a YAML file; an empty file is an empty one.

    Raises:
        ConfigError: Not readable, no mapping, or a key that is there twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML keeps the last of two equal keys; this one refuses them."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in seen:
                    raise ConfigError(f"{path}: {name} is there twice, again in line {line}")
                seen.add(name)
            return super().construct_mapping(node, deep)

    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must be a mapping of settings, got {type(tree).__name__}")
    return tree


def _leading_comment(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines
