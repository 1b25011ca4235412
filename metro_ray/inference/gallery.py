"""One self-contained HTML page of results: photo, overlay, side view, joints, a mesh to turn.

The page holds everything it shows (pictures and arrays as base64), so it can be mailed or opened
from disk; pictures and mesh files are also written beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from metro_ray.inference.export import export_mesh
from metro_ray.inference.gallery_page import metrics_table, page
from metro_ray.inference.page import encode_jpeg, figure, to_base64
from metro_ray.inference.render import draw_joints, overlay, side_view
from metro_ray.inference.result import MeshResult, close_up

_PANEL_PX = 384
MESH_FILES = (".obj", ".glb")
"""Formats written beside the page for every item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryItem:
    """One picture with its prediction."""

    title: str
    """What the picture is called, e.g. the key of its row."""
    image: UInt8[np.ndarray, "H W 3"]
    """The whole picture, RGB."""
    result: MeshResult
    errors_mm: Mapping[str, float] = field(default_factory=dict)
    """Errors by name, millimetres; NaN where the label to compare with is missing."""
    truth: Float32[np.ndarray, "V 3"] | None = None
    """Ground-truth mesh, metres, relative to the root, where there is one."""

    @property
    def vertex_errors_mm(self) -> Float32[np.ndarray, " V"] | None:
        """Distance of each vertex from the truth, millimetres; None without it."""
        if self.truth is None:
            return None
        return np.linalg.norm(1000.0 * (self.result.vertices - self.truth), axis=1)


def write_gallery(
    folder: str | Path,
    items: Sequence[GalleryItem],
    *,
    title: str,
    metrics: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write `gallery.html`, and beside it `pictures/` and `meshes/`.

    Args:
        folder: made if missing; files of an earlier gallery are overwritten.
        items: in the order of the page.
        title: heading of the page.
        metrics: `val/..` and, to compare with, `baseline/..` names.
        notes: lines of plain text below the heading.

    Returns:
        Path of the page.
    """
    folder = Path(folder)
    for part in ("pictures", "meshes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    faces = _SharedFaces()
    cards = [_card(folder, number, item, faces) for number, item in enumerate(items)]
    html = page(
        title=title,
        notes=notes,
        table=metrics_table(metrics or {}),
        cards="\n".join(cards),
        data=faces.scripts(),
    )
    path = folder / "gallery.html"
    unfinished = path.with_suffix(".html.part")
    unfinished.write_text(html, encoding="utf-8")
    unfinished.replace(path)
    return path


class _SharedFaces:
    """Results of one body share their faces; the page holds each array once."""

    def __init__(self) -> None:
        self._arrays: list[Int32[np.ndarray, "F 3"]] = []

    def name(self, faces: Int32[np.ndarray, "F 3"]) -> str:
        for number, known in enumerate(self._arrays):
            if known is faces or np.array_equal(known, faces):
                return f"faces{number}"
        self._arrays.append(faces)
        return f"faces{len(self._arrays) - 1}"

    def scripts(self) -> str:
        arrays = (to_base64(np.ascontiguousarray(faces, "<u4").tobytes()) for faces in self._arrays)
        return "\n".join(_data(f"faces{n}", faces=text) for n, text in enumerate(arrays))


def _card(folder: Path, number: int, item: GalleryItem, faces: _SharedFaces) -> str:
    name = f"{number:03d}_{_file_name(item.title)}"
    cut, inside = close_up(item.image, item.result, _PANEL_PX)
    pictures = {
        "photo": cut,
        "mesh": overlay(cut, inside),
        "side": side_view(inside, _PANEL_PX),
        "joints": draw_joints(cut, inside),
    }
    figures = [
        _figure(folder / "pictures" / f"{name}_{kind}.jpg", picture, f"{kind} of {item.title}")
        for kind, picture in pictures.items()
    ]
    for ending in MESH_FILES:
        export_mesh(item.result, folder / "meshes" / f"{name}{ending}")
    links = " ".join(
        f'<a href="meshes/{name}{ending}" download>{ending[1:].upper()}</a>'
        for ending in MESH_FILES
    )
    shared = faces.name(item.result.faces)
    data = [_data(f"m{number}-mesh", vertices=_points(item.result.vertices), faces=shared)]
    switch = ""
    if item.truth is not None:
        data.append(_data(f"m{number}-truth", vertices=_points(item.truth), faces=shared))
        switch = "<label><input type=checkbox> ground truth</label>"
    return (
        f"<article><header><h2>{escape(item.title)}</h2>"
        f'<p class="errors">{_errors(item)}</p></header>'
        f'<div class="panels">{"".join(figures)}'
        f'<figure><canvas class="mesh" data-mesh="m{number}-mesh" tabindex="0" role="img" '
        f'aria-label="mesh of {escape(item.title)}; drag or use arrow keys to turn it"></canvas>'
        f"<figcaption>drag to turn {switch}</figcaption></figure></div>"
        f"<footer>{links}</footer>{''.join(data)}</article>"
    )


def _figure(path: Path, picture: UInt8[np.ndarray, "H W 3"], description: str) -> str:
    jpeg = encode_jpeg(picture)
    path.write_bytes(jpeg)
    return figure(jpeg, picture.shape[:2], description, description.split(" ", 1)[0])


def _errors(item: GalleryItem) -> str:
    shown = (
        f"<b>{escape(name)}</b> {value:.1f} mm"
        for name, value in item.errors_mm.items()
        if np.isfinite(value)
    )
    return " &nbsp; ".join(shown)


def _data(identifier: str, **values: str) -> str:
    return f'<script type="application/json" id="{identifier}">{json.dumps(values)}</script>'


def _points(vertices: Float32[np.ndarray, "V 3"]) -> str:
    return to_base64(np.ascontiguousarray(vertices, "<f4").tobytes())


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(title).stem).strip("_.")[:48] or "item"
