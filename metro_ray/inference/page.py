"""What all HTML pages share: the frame with its style (light and dark), and embedded pictures.

Pages hold everything they show, so they open from disk and without a network.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from jaxtyping import UInt8

_JPEG_QUALITY = 88

_STYLE = """
:root { color-scheme: light dark; --back: #f5f5f7; --card: #ffffff; --text: #1d1d22;
  --quiet: #63636e; --line: #dddde3; --accent: #2764c5; --second: #b4540a; }
@media (prefers-color-scheme: dark) { :root { --back: #141417; --card: #1f1f24; --text: #ececf1;
  --quiet: #9c9ca8; --line: #34343c; --accent: #8ab4ff;
  --second: #ffab66; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 1.6rem; background: var(--back);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .3rem; font-size: 1.7rem; letter-spacing: -.01em; }
h2 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
.notes { margin: 0; color: var(--quiet); }
table { border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; border-spacing: 0; overflow: hidden; }
th, td { padding: .45rem .9rem; text-align: right; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--quiet); font-weight: 500; }
th:first-child { text-align: left; } tbody th small { display: block; color: var(--quiet);
  font-weight: 400; }
td { font-variant-numeric: tabular-nums; } th.text, td.text { text-align: left; }
.caption { margin: 0 0 .4rem; color: var(--quiet); font-size: .9rem; max-width: 62rem; }
.wide td:not(.text), .wide thead th { white-space: nowrap; }
@media (max-width: 560px) { th, td { padding: .4rem .5rem; }
  td.text { min-width: 15rem; } tbody th { overflow-wrap: normal; } }
@media print { article, tr, figure { break-inside: avoid; } body { max-width: none; padding: 0; } }
tr.marked > * { background: color-mix(in srgb, var(--accent) 14%, transparent); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .9rem 1rem; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .85rem; padding-top: .15rem; }
figure img { display: block; height: auto; max-width: 100%; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.wide { overflow-x: auto; } summary { cursor: pointer; }
svg { width: 100%; height: auto; display: block; } svg rect { fill: var(--accent); }
svg text { fill: var(--quiet); font-size: 11px; } svg line { stroke: var(--line); }
svg rect.two { fill: var(--second); } svg text.value { font-size: 8.5px; }
svg polyline { fill: none; stroke: var(--accent); stroke-width: 2; }
svg polyline.two { stroke: var(--second); } svg polyline.three { stroke: var(--accent);
  stroke-dasharray: 5 4; } svg polyline.four { stroke: var(--second); stroke-dasharray: 5 4; }
.keys { margin: .3rem 0 0; font-size: .85rem; color: var(--quiet); display: flex;
  flex-wrap: wrap; gap: .2rem 1rem; }
.keys i { display: inline-block; width: 1.1em; height: 0; margin-right: .4em;
  border-top: 4px solid var(--accent); vertical-align: middle; }
.keys i.two, .keys i.four { border-color: var(--second); }
.keys i.three, .keys i.four { border-top-style: dashed; }
.none { color: var(--quiet); font-weight: 400; }
"""


def document(*, title: str, notes: Sequence[str], style: str, body: str) -> str:
    """A whole page; `title` and `notes` are plain text, `style` and `body` CSS and HTML."""
    lines = "<br>".join(escape(note) for note in notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n<body>"
        f'<h1>{escape(title)}</h1><p class="notes">{lines}</p>{body}</body></html>\n'
    )


def table(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    caption: str,
    num_text: int = 1,
    last_is_text: bool = False,
    marked: Sequence[int] = (),
) -> str:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        head: titles of the columns, plain text.
        lines: cells, plain text; the first of a line is its heading.
        caption: what the table is, plain text.
        num_text: leading columns that hold text; the others hold numbers, on the right.
        last_is_text: whether the last column holds text too.
        marked: numbers of lines to stress.
    """

    def cell(tag: str, place: int, text: str) -> str:
        is_text = place < num_text or (last_is_text and place == len(head) - 1)
        kind = ' class="text"' if is_text else ""
        scope = "" if tag == "td" else f' scope="{"col" if tag == "th" else "row"}"'
        return f"<{tag[:2]}{kind}{scope}>{escape(text)}</{tag[:2]}>"

    titles = "".join(cell("th", place, text) for place, text in enumerate(head))
    rows = "".join(
        f"<tr{' class=marked' if number in marked else ''}>"
        + "".join(cell("td" if place else "th-row", place, text) for place, text in enumerate(line))
        + "</tr>"
        for number, line in enumerate(lines)
    )
    return (
        f'<p class="caption">{escape(caption)}</p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def encode_jpeg(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """An RGB picture as JPEG."""
    done, encoded = cv2.imencode(
        ".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert done, "OpenCV encodes every uint8 picture"
    return encoded.tobytes()


def figure(jpeg: bytes, size: tuple[int, int], description: str, caption: str) -> str:
    """A picture within the page.

    Args:
        jpeg: the encoded picture.
        size: its height and width, pixels.
        description: for those who do not see it, plain text.
        caption: below it, plain text.
    """
    return (
        f'<figure><img src="data:image/jpeg;base64,{to_base64(jpeg)}" alt="{escape(description)}" '
        f'width="{size[1]}" height="{size[0]}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def to_base64(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode("ascii")
