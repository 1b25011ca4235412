"""What pages of runs, evaluations and comparisons share: style, sections, settings, environment."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from metro_ray.config.load import diff, load_config, value_of
from metro_ray.errors import ConfigError
from metro_ray.inference.page import table

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

STYLE = """
main > section { margin-top: 1.8rem; } section > h2 { font-size: 1.25rem; margin-bottom: .5rem; }
h3 { margin: 0 0 .5rem; font-size: 1rem; } .rows + h3 { margin-top: 1.2rem; }
section > .wide + *, section > * + .wide + .caption { margin-top: .8rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: .8rem; }
.tiles article { padding: .7rem .9rem; } .tiles b { display: block; font-size: 1.35rem;
  white-space: nowrap; font-weight: 600; font-variant-numeric: tabular-nums; }
@media (max-width: 560px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tiles small { color: var(--quiet); display: block; }
.charts { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); }
.rows { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); }
.rows .panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem;
  margin-top: .5rem; }
.rows img { width: 100%; aspect-ratio: 1; border-radius: 8px; }
.rows h3 { overflow-wrap: anywhere; margin: 0; font-weight: 600; font-size: .95rem; }
@media (max-width: 560px) { .rows .panels { grid-template-columns: repeat(2, 1fr); }
  body { padding: 1rem; } }
.scale { display: flex; align-items: center; gap: .6rem; color: var(--quiet);
  margin: .2rem 0 .8rem; flex-wrap: wrap; }
.scale i { width: 180px; height: 12px; border-radius: 6px; background: linear-gradient(90deg,
  #440154, #3b528b, #21918c, #5ec962, #fde725); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
.notice { border-left: 4px solid var(--second); padding: .5rem .9rem; background: var(--card); }
details { margin-top: .6rem; }
"""


def section(title: str, content: str) -> str:
    """A part of the page with its heading; "" without content."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def settings_table(config: TrainConfig) -> str:
    """Settings that differ from the preset that the run began with, then from METRO's defaults."""
    default = load_config(config.kind)
    caption = f"Settings that differ from METRO's defaults for a {config.kind}"
    found = _differences(config, default, "default", caption)
    preset = config.run.preset
    if preset is None:
        return found
    try:
        begun = load_config(config.kind, preset)
    except ConfigError:
        return f"<p>The preset {escape(preset)} is not there any more.</p>{found}"
    caption = f"Settings that differ from the preset {preset}"
    return _differences(config, begun, "preset", caption) + found


def _differences(config: TrainConfig, other: TrainConfig, name: str, caption: str) -> str:
    lines = [
        [key, _plain(value), _plain(value_of(other, key))]
        for key, value in diff(config, other).items()
    ]
    return table(["setting", "this run", name], lines, caption=caption, num_text=3)


def environment_list(values: Mapping[str, Any]) -> str:
    """Machine and versions: names beside values."""
    items = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(str(value))}</dd>"
        for name, value in values.items()
    )
    return f"<article><dl>{items}</dl></article>" if items else ""


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
