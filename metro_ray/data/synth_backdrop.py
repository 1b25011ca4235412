"""What is behind and in front of the subject: backdrops, occluders, sensor noise.

Images are float32 sRGB in [0, 1], (H, W, 3). All noise is cut from one tile of several octaves
that is made once per process from a fixed seed: fresh octaves for each image cost more than all
the rest of the picture.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

from metro_ray.data.synth_scene import random_color

Rng = np.random.Generator
Picture = Float32[np.ndarray, "H W 3"]
Gray = Float32[np.ndarray, "H W"]

_TILE = 1024


@lru_cache(maxsize=1)
def _noise_tile() -> Gray:
    """Noise of eight octaves with values spread over [0, 1]."""
    rng = np.random.default_rng(20210)
    tile = np.zeros((_TILE, _TILE), dtype=np.float32)
    for octave in range(2, 10):
        grid = rng.random((2**octave, 2**octave), dtype=np.float32) - 0.5
        tile += 0.62**octave * cv2.resize(grid, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    low, high = np.quantile(tile, [0.01, 0.99])
    return np.clip((tile - low) / (high - low), 0, 1).astype(np.float32)


@lru_cache(maxsize=1)
def _grain_tile() -> Gray:
    """White normal noise."""
    return np.random.default_rng(20211).standard_normal((_TILE, _TILE), dtype=np.float32)


def noise_patch(rng: Rng, height: int, width: int, zoom: float = 1.0) -> Gray:
    """A random cut of the noise tile; a larger zoom shows fewer, larger spots."""
    rows, columns = (max(8, min(_TILE - 1, round(n / zoom))) for n in (height, width))
    top, left = rng.integers(_TILE - rows), rng.integers(_TILE - columns)
    patch = _noise_tile()[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    return cv2.resize(np.ascontiguousarray(patch), (width, height))


def paint_backdrop(rng: Rng, size: int) -> Picture:
    """A random background: gradient, coloured noise, a room, clutter, or a tiled wall."""
    painters = (_gradient, _clouds, _room, _clutter, _tiles)
    picture = painters[int(rng.choice(len(painters), p=(0.16, 0.24, 0.28, 0.20, 0.12)))](rng, size)
    amount = rng.uniform(0.0, 0.22)
    picture *= 1 + amount * (noise_patch(rng, size, size, rng.uniform(0.3, 2.0))[..., None] - 0.5)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 3.0) * size / 256)
    return np.clip(picture, 0, 1)


def paint_studio(rng: Rng, size: int) -> Picture:
    """The bright, nearly white wall of a photo studio, a little darker towards the floor."""
    shade = np.linspace(0, -rng.uniform(0.0, 0.08), size, dtype=np.float32)[:, None, None]
    tint = rng.uniform(0.88, 0.96) + rng.normal(0, 0.01, 3)
    return np.clip(np.ones((size, size, 1), np.float32) * tint + shade, 0, 1).astype(np.float32)


def paint_occluders(rng: Rng, picture: Picture, box: Float32[np.ndarray, "4"]) -> Picture:
    """Bars and polygons in front of the subject.

    Args:
        rng: the image's painter.
        picture: changed in place.
        box: the subject's left, top, right, bottom in pixels.
    """
    size = picture.shape[0]
    span = float(max(box[2] - box[0], box[3] - box[1]))
    for number in range(rng.integers(1, 3)):
        mask = np.zeros((size, size), dtype=np.uint8)
        place = rng.uniform(box[:2], box[2:])
        is_bar = number == 0 and rng.random() < 0.5
        shape = _bar(rng, place, span, size) if is_bar else _blob(rng, place, span)
        cv2.fillPoly(mask, [np.round(shape * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
        texture = noise_patch(rng, size, size, rng.uniform(0.5, 4)) * np.float32(
            rng.uniform(0, 0.5)
        )
        paint = _mix(texture, random_color(rng), random_color(rng))
        alpha = (mask.astype(np.float32) / 255)[..., None]
        picture += alpha * (paint - picture)
    return picture


def cast_shadow(rng: Rng, picture: Picture, box: Float32[np.ndarray, "4"]) -> Picture:
    """Darken the ground under the lower edge of the subject's box (changed in place)."""
    size = picture.shape[0]
    small = np.zeros((64, 64), dtype=np.float32)
    step = 64 / size
    center = (0.5 * (box[0] + box[2]) * step + rng.normal(0, 1.5), (box[3] - 1) * step)
    axes = (0.45 * (box[2] - box[0]) * step + 2, rng.uniform(1.2, 3.0))
    cv2.ellipse(small, (center, (2 * axes[0], 2 * axes[1]), 0.0), 1.0, -1, cv2.LINE_AA)
    soft = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.6), (size, size))
    picture *= 1 - rng.uniform(0.15, 0.55) * soft[..., None]
    return picture


def develop(rng: Rng, picture: Picture) -> Picture:
    """What lens and sensor do: exposure, contrast, blur, grain."""
    size = picture.shape[0]
    contrast, exposure = rng.uniform(0.85, 1.12), rng.normal(0, 0.04)
    picture = (picture - 0.5) * np.float32(contrast) + np.float32(0.5 + exposure)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.9) * size / 256)
    top, left = rng.integers(0, _TILE - size, 2) if size < _TILE else (0, 0)
    grain = _grain_tile()[top : top + size, left : left + size]
    grain = cv2.resize(grain, (size, size)) if grain.shape != (size, size) else grain
    picture += np.float32(rng.uniform(0, 0.02)) * grain[..., None]
    return np.clip(picture, 0, 1)


def _gradient(rng: Rng, size: int) -> Picture:
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    t = np.clip(0.5 + np.cos(angle) * line[None] + np.sin(angle) * line[:, None], 0, 1)
    return _mix(t, random_color(rng, 0.6), random_color(rng, 0.6))


def _clouds(rng: Rng, size: int) -> Picture:
    """Noise through three colours, as foliage, stone or a blurred crowd looks."""
    t = noise_patch(rng, size, size, rng.uniform(0.6, 5.0))
    low, middle, high = (random_color(rng, 0.6) for _ in range(3))
    dark = _mix(np.clip(2 * t, 0, 1), low, middle)
    return dark + np.clip(2 * t - 1, 0, 1)[..., None] * (high - middle).astype(np.float32)


def _room(rng: Rng, size: int) -> Picture:
    """A wall with pictures and windows, a skirting board, a floor."""
    wall = _mix(np.full((size, size), rng.random(), np.float32), *_near_colors(rng, 0.35))
    edge = int(size * rng.uniform(0.55, 0.88))
    for _ in range(rng.integers(0, 4)):
        corner = rng.uniform(0, size, 2) * (1, 0.6)
        other = corner + rng.uniform(0.08, 0.4, 2) * size
        frame, inside = random_color(rng, 0.5), random_color(rng, 0.7)
        cv2.rectangle(wall, *_corners(corner, other), frame.tolist(), -1)
        inset = rng.uniform(2, 6) * size / 256
        cv2.rectangle(wall, *_corners(corner + inset, other - inset), inside.tolist(), -1)
    rows = np.arange(size - edge, dtype=np.float32)[:, None] + 4
    columns = np.arange(size, dtype=np.float32)[None] - size * rng.uniform(0.2, 0.8)
    planks = np.sin(columns / rows * rng.uniform(6, 22))
    floor = _mix((planks > 0).astype(np.float32) * rng.uniform(0, 1), *_near_colors(rng, 0.5))
    wall[edge:] = floor
    height = int(rng.uniform(0, 8) * size / 256)
    wall[max(0, edge - height) : edge] = random_color(rng, 0.3)
    shade = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), size, dtype=np.float32)
    return wall * shade[None, :, None]


def _clutter(rng: Rng, size: int) -> Picture:
    """Many overlapping shapes over noise."""
    picture = _clouds(rng, size)
    for _ in range(rng.integers(6, 22)):
        color = random_color(rng).tolist()
        center, extent = rng.uniform(0, size, 2), rng.uniform(0.04, 0.3, 2) * size
        if rng.random() < 0.6:
            turned = (tuple(center.tolist()), tuple(extent.tolist()), float(rng.uniform(0, 180)))
            corners = np.round(cv2.boxPoints(turned) * 16).astype(np.int32)
            cv2.fillPoly(picture, [corners], color, cv2.LINE_8, shift=4)
        else:
            middle = (round(float(center[0])), round(float(center[1])))
            cv2.circle(picture, middle, max(2, round(float(extent[0]) / 2)), color, -1)
    return picture


def _tiles(rng: Rng, size: int) -> Picture:
    """Bricks, tiles or stripes."""
    period = rng.uniform(0.05, 0.2, 2) * size
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row = np.floor(y / period[0])
    shift = 0.5 * (row % 2) if rng.random() < 0.5 else 0.0
    fx, fy = (x / period[1] + shift) % 1, (y / period[0]) % 1
    joint = rng.uniform(0.04, 0.3)
    grout = ((fy < joint) | (fx < joint)) if rng.random() < 0.7 else (fx < 0.5)
    return _mix(grout.astype(np.float32), *_near_colors(rng, 0.5))


def _near_colors(rng: Rng, saturation: float) -> tuple[np.ndarray, np.ndarray]:
    first = random_color(rng, saturation)
    return first, np.clip(first + rng.normal(0, 0.12, 3), 0, 1)


def _mix(t: Gray, first: np.ndarray, second: np.ndarray) -> Picture:
    t = np.asarray(t, dtype=np.float32)[..., None]
    return first.astype(np.float32) + t * (second - first).astype(np.float32)


def _corners(first: np.ndarray, second: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    x0, y0, x1, y1 = (round(float(value)) for value in (*first, *second))
    return (x0, y0), (x1, y1)


def _bar(rng: Rng, place: np.ndarray, span: float, size: int) -> np.ndarray:
    """A pole or rail through the picture."""
    angle = rng.normal(0, 0.12) + (np.pi / 2 if rng.random() < 0.6 else 0)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]]) * span * rng.uniform(0.02, 0.07)
    far = 2 * size * along
    return np.stack(
        [place - far - across, place + far - across, place + far + across, place - far + across]
    )


def _blob(rng: Rng, place: np.ndarray, span: float) -> np.ndarray:
    """A convex polygon, up to a third of the subject wide."""
    corners = rng.integers(3, 8)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = span * rng.uniform(0.07, 0.19) * rng.uniform(0.7, 1.0, corners)
    return place + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
