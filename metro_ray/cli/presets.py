"""`metro-ray presets [NAME]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from metro_ray.config.presets import list_presets
from metro_ray.errors import ConfigError


def run(argv: Sequence[str]) -> int:
    """List the shipped presets, or print one."""
    parser = argparse.ArgumentParser(
        prog="metro-ray presets", description="List the presets that --preset takes, or show one."
    )
    parser.add_argument("name", nargs="?", help="preset to print as YAML")
    name = parser.parse_args(argv).name
    presets = {preset.name: preset for preset in list_presets()}
    if name is None:
        width = max(map(len, presets)) + 2
        for preset in presets.values():
            print(f"{preset.name:<{width}}{preset.kind or 'any':<6}{preset.description}")
        return 0
    if name not in presets:
        raise ConfigError(f"unknown preset {name}; the presets are: {', '.join(presets)}")
    print(presets[name].path.read_text(encoding="utf-8"), end="")
    return 0
