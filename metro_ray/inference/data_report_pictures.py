"""Pictures of a data set's rows: the photo with box and joints, the crop, the label's mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from metro_ray.bodies import available_bodies, load_body
from metro_ray.geometry.boxes import PIXELS_PER_SCALE, crop_window
from metro_ray.geometry.weak_camera import fit_weak_camera
from metro_ray.inference.render import draw_skeleton, overlay
from metro_ray.inference.result import MeshResult, close_up

if TYPE_CHECKING:
    from pathlib import Path

    from metro_ray.bodies import BodyModel
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.data.labels import Label

_BOX, _DARK = (255, 202, 40), (25, 25, 30)
_OUTSIDE_GREY = 226
_SEEN_OUTSIDE = 0.35
"""How far beyond the image's edges its surroundings are shown, in its longer sides."""
_MIN_JOINTS = 4
_MESH_OPACITY = 0.65
"""The photo must show through, so that one can see whether the mesh fits it."""
MARGIN = 0.1
"""Around the crop in close-ups, share of its side."""


class LabelMeshes:
    """The meshes that labels describe, as far as their body models are on this machine."""

    def __init__(self, assets_root: str | Path | None = None) -> None:
        self._assets_root = assets_root
        self._present = {
            name: status.present for name, status in available_bodies(assets_root).items()
        }
        self._bodies: dict[str, BodyModel] = {}
        self.lacking: set[str] = set()
        """Body models that were asked for and are not there."""

    def place(self, label: Label, spec: MeshSpec) -> MeshResult | None:
        """The label's mesh in its picture; None without mesh label, body model or camera.

        The camera is the weak-perspective one that fits the 3D joints to the 2D joints: the
        label's own, else (where it has none, or not in metres) those of the posed body model.
        """
        if not label.has_mesh or not label.has_keypoints_2d:
            return None
        body = self._body(spec.name)
        if body is None:
            return None
        import torch

        with torch.no_grad():
            posed = body(
                torch.from_numpy(label.pose).float()[None],
                torch.from_numpy(label.betas).float()[None],
            )
            root = body.root_from_mesh(posed.vertices)[0]
            vertices = (posed.vertices[0] - root).numpy()
            own_joints = (posed.joints[0] - root).numpy()
        joints, seen = own_joints, label.keypoints_2d[:, 2] > 0
        if label.has_joints_3d and _alike(label.joints_3d[:, :3], own_joints):
            root_3d = label.joints_3d[spec.root_label_joint, :3]
            joints = (label.joints_3d[:, :3] - root_3d).astype(np.float32)
            seen = seen & (label.joints_3d[:, 3] > 0)
        if seen.sum() < _MIN_JOINTS:
            return None
        fit = fit_weak_camera(joints[seen], label.keypoints_2d[seen, :2])
        if fit.scale <= 0:
            return None
        window = crop_window(label.center, label.scale, 224)
        half = np.array([window.width, window.height]) / 2
        shift = (fit.shift + 0.5 - (window.left, window.top) - half) / fit.scale
        return MeshResult(
            vertices=vertices,
            joints=own_joints[list(spec.label_to_joints)],
            camera=np.array([fit.scale / half[0], *shift], np.float32),
            window=window,
            vertices_px=fit.project(vertices).astype(np.float32),
            joints_px=fit.project(own_joints[list(spec.label_to_joints)]).astype(np.float32),
            faces=body.faces.numpy().astype(np.int32),
            joint_set=spec.joints,
        )

    def _body(self, name: str) -> BodyModel | None:
        if not self._present.get(name, False):
            self.lacking.add(name)
            return None
        if name not in self._bodies:
            self._bodies[name] = load_body(name, self._assets_root)
        return self._bodies[name]


def _alike(joints: Float[np.ndarray, "L 3"], others: Float[np.ndarray, "L 3"]) -> bool:
    """Whether two skeletons have about the same size: within a factor of two."""
    sizes = [float(np.linalg.norm(np.ptp(points, axis=0))) for points in (joints, others)]
    return 0.5 < sizes[0] / max(sizes[1], 1e-9) < 2.0


def mesh_close_up(
    image: UInt8[np.ndarray, "H W 3"], result: MeshResult, size: int
) -> UInt8[np.ndarray, "S S 3"]:
    """The square around the crop with the mesh over it."""
    cut, inside = close_up(image, result, size, MARGIN)
    return overlay(cut, inside, opacity=_MESH_OPACITY)


def plain_picture(image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its longer side scaled to `size` pixels."""
    zoom = size / max(image.shape[:2])
    sides = [max(1, round(side * zoom)) for side in (image.shape[1], image.shape[0])]
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, sides, interpolation=how), np.uint8)


def label_picture(
    image: UInt8[np.ndarray, "H W 3"], label: Label, spec: MeshSpec, size: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture, and grey around it as far as box and joints reach, with both drawn.

    Args:
        image: RGB.
        label: of the row.
        spec: names and bones of its joints.
        size: longer side of the result, pixels.
    """
    seen = (label.keypoints_2d[:, 2] > 0) & label.has_keypoints_2d
    half = 0.5 * PIXELS_PER_SCALE * label.scale
    box = np.array([np.array(label.center) - half, np.array(label.center) + half])
    low, high = _shown_part(image, np.concatenate([box, label.keypoints_2d[seen, :2]]))
    zoom = size / float((high - low).max())
    picture = plain_picture(_with_surroundings(image, low, high), size)

    def moved(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        return (points + 0.5 - low) * zoom - 0.5

    corners = np.clip(np.rint(moved(box)), -(1 << 14), 1 << 14).astype(int).tolist()
    for width, color in ((4, _DARK), (2, _BOX)):
        cv2.rectangle(picture, corners[0], corners[1], color, width, cv2.LINE_AA)
    joints = np.column_stack([moved(label.keypoints_2d[:, :2]), label.joints_3d[:, 2]])
    return draw_skeleton(picture, joints.astype(np.float32), spec.label_joints, seen)


def _shown_part(
    image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "N 2"]
) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right of what is shown, whole pixels of the image."""
    size = np.array([image.shape[1], image.shape[0]])
    reach = _SEEN_OUTSIDE * size.max()
    low = np.clip(points.min(axis=0) - 2, -reach, 0)
    high = np.clip(points.max(axis=0) + 2, size, size + reach)
    return np.floor(low).astype(int), np.ceil(high).astype(int)


def _with_surroundings(
    image: UInt8[np.ndarray, "H W 3"], low: np.ndarray, high: np.ndarray
) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    return np.asarray(
        cv2.copyMakeBorder(
            image,
            int(-low[1]),
            int(high[1] - height),
            int(-low[0]),
            int(high[0] - width),
            cv2.BORDER_CONSTANT,
            value=(_OUTSIDE_GREY,) * 3,
        ),
        np.uint8,
    )
