"""The numbers that estimates rest on, read from `costs.yaml` beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from metro_ray.errors import ConfigError

_FILE = Path(__file__).with_name("costs.yaml")


@cache
def read_costs() -> dict[str, Any]:
    """The file as it is."""
    import yaml

    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def device_names() -> list[str]:
    """What `--gpu` may name."""
    return list(read_costs()["devices"])


def device(name: str) -> dict[str, Any]:
    """The numbers of one device.

    Raises:
        ConfigError: Unknown; the message lists those that are known.
    """
    devices = read_costs()["devices"]
    if name not in devices:
        known = ", ".join(devices)
        raise ConfigError(
            f"no figures for --gpu {name}; known are {known}. For others take the nearest, with "
            "--images-per-second and --price of your own"
        )
    return devices[name]
