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
  --quiet: #6a6a75; --line: #dddde3; --accent: #2764c5; }
@media (prefers-color-scheme: dark) { :root { --back: #141417; --card: #1f1f24; --text: #ececf1;
  --quiet: #9c9ca8; --line: #34343c; --accent: #8ab4ff; } }
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
td { font-variant-numeric: tabular-nums; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: .9rem 1rem; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .85rem; padding-top: .15rem; }
figure img { display: block; height: auto; max-width: 100%; }
a { color: var(--accent); }
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
