"""The YAML of a data set: which keys it must have and where the files it names are looked up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_ray.data.storage import as_path, exists, is_url, read_bytes
from metro_ray.errors import DataError

_LOG = logging.getLogger(__name__)


def load_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(read_bytes(path).decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(config, dict):
        raise DataError(
            f"{path}: expected keys img, label, hw, linelist, got {type(config).__name__}"
        )
    return config


def file_name(path: Path, config: Mapping[str, Any], key: str, required: bool) -> str | None:
    """The file that `key` names, or None for an optional key that is left out."""
    name = config.get(key)
    if name is None and not required:
        return None
    if not isinstance(name, str):
        found = ", ".join(str(known) for known in config)
        raise DataError(
            f"{path}: key {key!r} must name a file, got {name!r}; the YAML has: {found}"
        )
    return name


def file_names(path: Path, config: Mapping[str, Any], key: str) -> list[str]:
    """The files that a composite YAML lists under `key`, directly or in a text file."""
    listed = config.get(key)
    if isinstance(listed, str):
        lines = read_bytes(find_file(listed, path, key)).decode("utf-8").splitlines()
        listed = [line.strip() for line in lines if line.strip()]
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(name, str) for name in listed)
    ):
        raise DataError(
            f"{path}: a composite data set needs a list of files under {key!r}, got {listed!r}"
        )
    return listed


def find_file(name: str, yaml_path: Path, key: str) -> Path:
    """Look a file up in the current folder, then beside the YAML (METRO's order).

    Beside a YAML in remote storage only that storage is searched. A URL is taken as it is.
    """
    if is_url(name) or is_url(yaml_path):
        path = as_path(name) if is_url(name) else yaml_path.parent / name
        if exists(path):
            return path
        raise DataError(f"{yaml_path}: file {name!r} of key {key!r} does not exist at {path}")
    here, beside = Path(name).absolute(), (yaml_path.parent / name).absolute()
    if here.exists():
        if beside.exists() and not here.samefile(beside):
            _LOG.warning(
                "%s: %r names %s (current folder wins), although %s exists too",
                yaml_path,
                key,
                here,
                beside,
            )
        return here
    if beside.exists():
        return beside
    raise DataError(
        f"{yaml_path}: file {name!r} of key {key!r} exists neither at {here} nor at {beside}"
    )
