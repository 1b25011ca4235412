"""docs/flags.md tells the truth."""

import re
from pathlib import Path

from metro_ray.config.flags import FLAGS
from metro_ray.config.presets import list_presets

DOCS = (Path(__file__).parents[2] / "docs" / "flags.md").read_text()


def test_every_flag_is_listed_with_its_key():
    table = DOCS.split("## METRO's flags")[1].split("\nWhere a METRO default")[0]
    rows = [row.split(" | ") for row in table.splitlines() if row.startswith("| `-")]
    listed = {tuple(re.findall(r"`(-[^`]+)`", row[0])): row[2] for row in rows}
    assert set(listed) == {flag.names for flag in FLAGS}
    for flag in FLAGS:
        assert listed[flag.names].startswith(f"`{flag.key}`" if flag.key else "no effect: ")


def test_every_preset_is_listed():
    table = DOCS.split("## Presets")[1].split("## From Python")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= {preset.name for preset in list_presets()}
