"""Draw a scene: posed vertices -> photo-like image, and the same camera for the labels.

`SceneRenderer.place` gives the one projection that both the picture and the 2D labels use, so a
label joint lies exactly where the drawn mesh has it.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from metro_ray.bodies import BodyModel
from metro_ray.data import synth_backdrop, synth_surface
from metro_ray.data.synth_hand_poses import HandRest
from metro_ray.data.synth_limbs import BodyRest
from metro_ray.data.synth_scene import Camera, Scene, Setting, mean_betas
from metro_ray.geometry import raycast

_OCCLUDED_SHARE = 0.3
# Rays per pixel and axis for the subject: smooth outlines at less cost than a larger image.
_SUPERSAMPLE = 2


class Projection(NamedTuple):
    """Camera coordinates (metres, x right, y down, z away) -> pixels and depth.

    Attributes:
        center: point of the subject that the optical axis goes through, metres.
        distance: camera to `center` in metres; infinity is weak perspective.
        scale: pixels per metre at `center`.
        shift: pixel position of `center`.
    """

    center: Float[np.ndarray, "3"]
    distance: float
    scale: float
    shift: Float[np.ndarray, "2"]

    def __call__(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Pixel x, y and a depth that is linear on the screen (smaller is nearer)."""
        local = np.asarray(points, dtype=np.float64) - self.center
        if not np.isfinite(self.distance):
            return np.column_stack([self.scale * local[:, :2] + self.shift, local[:, 2]])
        shrink = self.distance / (self.distance + local[:, 2])
        depth = self.distance * (1.0 - shrink)
        return np.column_stack([self.scale * shrink[:, None] * local[:, :2] + self.shift, depth])


class SceneRenderer:
    """Draws one body model; everything that does not change from image to image is made once."""

    def __init__(self, body: BodyModel, size: int, setting: Setting = "varied") -> None:
        """Prepare a body model for drawing.

        Args:
            body: `anny_body` or `anny_hand` (any body model with METRO's label joints will do).
            size: side of the square images in pixels.
            setting: what is around the subject, see `SETTINGS`.
        """
        self.size = size
        self.setting = setting
        self.body = body
        self.spec = body.spec
        faces = body.faces.cpu().numpy()
        rest, joints = _rest_pose(body)
        if body.spec.kind == "hand":
            self.rest: BodyRest | HandRest = HandRest.from_joints(joints)
            self._loop = synth_surface.wrist_loop(faces)
            faces = np.concatenate([faces, synth_surface.forearm_faces(self._loop, len(rest))])
            extended = synth_surface.with_forearm(rest, self._loop)
            self._surface = synth_surface.hand_surface(extended, faces, len(rest))
        else:
            named = dict(zip(body.spec.label_joints.names, joints))
            self.rest = BodyRest.from_joints(named)
            self._loop = None
            self._surface = synth_surface.body_surface(rest, faces, named)

    def place(self, vertices: Float[np.ndarray, "V 3"], camera: Camera) -> Projection:
        """The projection that puts a mesh into the picture as the camera draw says."""
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        center = 0.5 * (low + high).astype(np.float64)
        distance = camera.distance * float(np.max(high - low))
        unit = Projection(center, distance, 1.0, np.zeros(2))(vertices)[:, :2]
        corner, far = unit.min(axis=0), unit.max(axis=0)
        scale = camera.fill * self.size / float(np.max(far - corner))
        shift = np.array(camera.center) * self.size - 0.5 - scale * 0.5 * (corner + far)
        return Projection(center, distance, scale, shift)

    def draw(
        self, scene: Scene, vertices: Float[np.ndarray, "V 3"], projection: Projection
    ) -> UInt8[np.ndarray, "S S 3"]:
        """Draw the whole picture.

        Args:
            scene: colours, lights and the painter's seed.
            vertices: the posed mesh in the camera's frame, metres.
            projection: from `place`.

        Returns:
            RGB.
        """
        rng = np.random.default_rng(scene.paint_seed)
        pixels = projection(vertices)[:, :2]
        box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]).astype(np.float32)
        studio = self.setting == "studio"
        paint = synth_backdrop.paint_studio if studio else synth_backdrop.paint_backdrop
        picture = paint(rng, self.size)
        if self.spec.kind == "body" and rng.random() < 0.6 and not studio:
            picture = synth_backdrop.cast_shadow(rng, picture, box)
        layer = self.draw_subject(scene, vertices, projection)
        picture = picture * (1.0 - layer[..., 3:]) + layer[..., :3]
        if rng.random() < _OCCLUDED_SHARE and not studio:
            picture = synth_backdrop.paint_occluders(rng, picture, box)
        return np.rint(synth_backdrop.develop(rng, picture) * 255).astype(np.uint8)

    def draw_subject(
        self, scene: Scene, vertices: Float[np.ndarray, "V 3"], projection: Projection
    ) -> Float32[np.ndarray, "S S 4"]:
        """Shade the subject alone, with several rays a pixel.

        Returns:
            sRGB in [0, 1] times coverage, and the coverage.
        """
        layer = np.zeros((self.size, self.size, 4), dtype=np.float32)
        if self._loop is not None:
            vertices = synth_surface.with_forearm(vertices, self._loop)
        placed = projection(vertices)
        left, top = np.maximum(np.floor(placed[:, :2].min(axis=0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(placed[:, :2].max(axis=0)).astype(int) + 1, self.size)
        width, height = int(right - left), int(bottom - top)
        if width < 1 or height < 1:
            return layer
        # The centres of a pixel's rays: at -1/4 and 1/4 for two rays an axis.
        fine = placed.copy()
        fine[:, :2] = (placed[:, :2] - (left, top) + 0.5) * _SUPERSAMPLE - 0.5
        faces = self._surface.faces
        seen = raycast.render(
            fine, faces, width * _SUPERSAMPLE, height * _SUPERSAMPLE, cull_backfaces=True
        )
        hit = seen.face_index >= 0
        fine_layer = np.zeros((*hit.shape, 4), dtype=np.float32)
        fine_layer[hit] = self._shade(scene, vertices, seen.face_index[hit], seen.bary[hit])
        layer[top:bottom, left:right] = cv2.resize(
            fine_layer, (width, height), interpolation=cv2.INTER_AREA
        )
        return layer

    def _shade(
        self,
        scene: Scene,
        vertices: Float[np.ndarray, "V 3"],
        face_index: np.ndarray,
        bary: Float32[np.ndarray, "N 3"],
    ) -> Float32[np.ndarray, "N 4"]:
        """Colour (sRGB) and coverage (1) of the hit points."""
        faces = self._surface.faces
        normals = raycast.vertex_normals(vertices, faces)
        values = np.concatenate([normals, self._surface.fields], axis=1)
        corners = faces[face_index]
        point = bary[:, :1] * values[corners[:, 0]]
        point += bary[:, 1:2] * values[corners[:, 1]]
        point += bary[:, 2:] * values[corners[:, 2]]
        color = synth_surface.albedo(self._surface, scene.look, face_index, point[:, 3:])
        # Light adds in linear RGB; gamma 2 is near enough to sRGB and its root is cheap.
        light = raycast.shade(point[:, :3], color * color, scene.lights)
        out = np.ones((len(point), 4), dtype=np.float32)
        out[:, :3] = np.sqrt(np.clip(light, 0, 1))
        return out


def _rest_pose(
    body: BodyModel,
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "J 3"]]:
    """Vertices and label joints of the mean person at zero pose: metres, y up, z to the front."""
    with torch.no_grad():
        rest = body(
            torch.zeros(1, body.spec.num_pose),
            torch.from_numpy(mean_betas()).to(torch.float32)[None],
        )
    return rest.vertices[0].double().numpy(), rest.joints[0].double().numpy()
