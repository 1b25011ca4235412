"""SampleTransform: a stored row -> a Sample, in METRO's order of operations.

Decode (EXIF orientation applied), draw parameters, crop, flip, round to uint8; joints, pose and
masks alongside. METRO multiplies colours before it divides by 255 and normalises; those steps
commute with everything here and happen on the device (`normalize.py`). Rounding the crop to uint8
costs at most half a grey level (0.009 in normalised units); `crop_metro` gives the unrounded
picture.

Options that change results a little, METRO's way being the default:
  crop_mode "fast": the same steps on uint8 (see `geometry/crop.py`).
  joints "exact": 2D joints where the crop really shows them. METRO truncates them to whole crop
  pixels and adds one (half a pixel to the right and down on average), and mirrors them about an
  axis that is one pixel off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Float, UInt8

from metro_ray.data.augment import (
    AugmentParams,
    AugmentSettings,
    flip_joints,
    flip_pose,
    rotate_joints_3d,
    rotate_pose,
)
from metro_ray.data.bad_rows import BadRow
from metro_ray.data.labels import Label, parse_label
from metro_ray.data.plan import decode_entry
from metro_ray.data.sample import Sample, blank_sample, without_labels
from metro_ray.errors import DataError
from metro_ray.geometry.boxes import (
    crop_coordinates,
    crop_window,
    point_matrix,
    transform_points,
)
from metro_ray.geometry.crop import crop_fast, crop_metro

if TYPE_CHECKING:
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.data.rows import Row, RowDataset


_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SCAN, _APP1, _FIRST_WITH_LENGTH = 0xDA, 0xE1, 0xC0
_WITHOUT_LENGTH = range(0xD0, 0xDA)
_MAX_PIXELS = 1 << 30
"""OpenCV's limit."""


def decode_image(data: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """Encoded picture -> BGR uint8 (grey becomes three equal channels, EXIF orientation applied).

    Raises:
        DataError: not a picture, or a JPEG that is cut. (Some OpenCV versions fill the missing part
            with grey, so its end is looked for here. Damage in the middle of a JPEG cannot be told
            from a picture.)
    """
    if not data:
        raise DataError("the image is empty")
    if data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < 0:
        raise DataError(
            f"the JPEG is cut: no end marker in its {len(data)} bytes; copy the file again"
        )
    image = _decode_plain_jpeg(data)
    if image is not None:
        return image
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"the image cannot be decoded: {error.err}") from error
    if image is None:
        raise DataError(
            f"the image cannot be decoded: its {len(data)} bytes are no whole JPEG or PNG"
        )
    return image


def _decode_plain_jpeg(data: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """A JPEG without faults and without EXIF, in half of OpenCV's time and to the bit as OpenCV.

    None for all else, which is OpenCV's to judge: what it makes of it stays the rule.
    """
    if not _is_plain_jpeg(data):
        return None
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        too_large = int(height) * int(width) > _MAX_PIXELS
        return None if too_large else simplejpeg.decode_jpeg(data, "BGR")
    except ValueError:  # libjpeg has warned of something
        return None


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the segments up to the first scan are whole and none of them is EXIF."""
    if not data.startswith(_JPEG_START):
        return False
    place = len(_JPEG_START)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            return True
        exif = marker == _APP1 and data.startswith(b"Exif", place + 4)
        if exif or marker < _FIRST_WITH_LENGTH or marker in _WITHOUT_LENGTH:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


class SampleTransform:
    """Turns rows into samples; holds plain values only, so it pickles and is safe to share between
    threads.

    The augmentation of a row depends on (seed, epoch, row, turn) and on nothing else: not on ranks,
    workers, batch size or on which rows came before.
    """

    def __init__(
        self,
        spec: MeshSpec,
        *,
        train: bool,
        seed: int = 0,
        image_size: int = 224,
        crop_mode: Literal["metro", "fast"] = "metro",
        joints: Literal["metro", "exact"] = "metro",
        augment: AugmentSettings | None = None,
        rotation_deg: float = 0.0,
        scale_factor: float = 1.0,
    ) -> None:
        """Fix everything but the row.

        Args:
            spec: which joints, pose and tokens a sample has.
            train: draw augmentation; otherwise the same crop every time.
            seed: of the augmentation.
            image_size: side of the crop, pixels.
            crop_mode: METRO's arithmetic or the faster one.
            joints: METRO's truncated 2D joints or exact ones.
            augment: widths of the distributions; METRO's for this spec when left out.
            rotation_deg: rotation in evaluation (test-time augmentation), degrees.
            scale_factor: box factor in evaluation.
        """
        self.spec = spec
        self.train = train
        self.image_size = image_size
        self._seed = seed
        self._crop = {"metro": crop_metro, "fast": crop_fast}[crop_mode]
        self._exact_joints = {"metro": False, "exact": True}[joints]
        self._augment = augment or AugmentSettings.for_spec(spec)
        self._fixed = AugmentParams.identity(spec, rotation_deg, scale_factor)

    def draw(self, row_id: int, epoch: int, turn: int = 0) -> AugmentParams:
        """The augmentation of a row in an epoch; `turn` tells its turns within the epoch apart."""
        if not self.train:
            return self._fixed
        rng = np.random.default_rng([self._seed, epoch, row_id, turn])
        return AugmentParams.sample(rng, self.spec, self._augment)

    def __call__(self, row: Row, row_id: int, epoch: int = 0, turn: int = 0) -> Sample:
        """Make the sample of a row; see `draw` for `epoch` and `turn`.

        Raises:
            DataError: the picture, the label or the box is broken; names the row's key.
        """
        try:
            label = parse_label(row.label, self.spec)
            image = decode_image(row.image_bytes)
            return self.apply(image, label, self.draw(row_id, epoch, turn), row_id, row.source)
        except DataError as error:
            raise DataError(f"{row.where or row_id} ({row.key}): {error}") from error

    def apply(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        label: Label,
        params: AugmentParams,
        row_id: int = 0,
        source: int = 0,
    ) -> Sample:
        """Apply given parameters to a decoded BGR picture and its label.

        Raises:
            DataError: the box is degenerate.
        """
        scale = params.scale_factor * label.scale
        crop = self._crop(image, label.center, scale, self.image_size, params.rotation_deg)
        return Sample(
            row_id=np.int64(row_id),
            image=_to_rgb_planes(crop, params.flip),
            pixel_gain=params.pixel_gain,
            keypoints_2d=self._keypoints_2d(label, params, scale),
            joints_3d=self._joints_3d(label, params),
            pose=self._pose(label, params),
            betas=label.betas.astype(np.float32),
            has_mesh=np.bool_(label.has_mesh),
            has_joints_3d=np.bool_(label.has_joints_3d),
            has_keypoints_2d=np.bool_(label.has_keypoints_2d),
            token_mask=params.token_mask,
            center=np.array(label.center, np.float32),
            scale=np.float32(scale),
            source=np.int64(source),
            valid=np.bool_(True),
        )

    def _keypoints_2d(
        self, label: Label, params: AugmentParams, scale: float
    ) -> Float[np.ndarray, "L 3"]:
        size, points = self.image_size, label.keypoints_2d[:, :2]
        result = label.keypoints_2d.copy()
        if self._exact_joints:
            window = crop_window(label.center, scale, size)
            result[:, :2] = crop_coordinates(points, window, size, params.rotation_deg)
        else:
            matrix = point_matrix(label.center, scale, (size, size), params.rotation_deg)
            result[:, :2] = 2.0 * transform_points(points + 1, matrix) / size - 1.0
        if params.flip:
            result = flip_joints(result, self.spec.label_flip_pairs)
        return result.astype(np.float32)

    def _joints_3d(self, label: Label, params: AugmentParams) -> Float[np.ndarray, "L 4"]:
        joints = label.joints_3d.copy()
        joints[:, :3] -= label.joints_3d[self.spec.root_label_joint, :3]
        joints = rotate_joints_3d(joints, params.rotation_deg)
        if params.flip:
            joints = flip_joints(joints, self.spec.label_flip_pairs)
        return joints.astype(np.float32)

    def _pose(self, label: Label, params: AugmentParams) -> Float[np.ndarray, " P"]:
        pose = rotate_pose(label.pose, params.rotation_deg)
        return flip_pose(pose, self.spec.pose_flip_pairs) if params.flip else pose


class LoadedRow(NamedTuple):
    """What `load_row` makes of one entry of an epoch plan."""

    sample: Sample
    key: str
    problem: BadRow | None
    """Why the sample is blank, or None."""


def load_row(dataset: RowDataset, transform: SampleTransform, entry: int, epoch: int) -> LoadedRow:
    """Read an entry of an `EpochPlan`.

    A broken row becomes a blank sample, a filler loses its labels.
    """
    row_id, turn, is_filler = decode_entry(entry, len(dataset))
    key = ""
    try:
        row = dataset.row(row_id)
        key = row.key
        sample = transform(row, row_id, epoch, turn)
    except DataError as error:
        blank = blank_sample(transform.spec, row_id, dataset.source(row_id), transform.image_size)
        key = key or dataset.key_or_number(row_id)
        return LoadedRow(blank, key, BadRow(row_id, key, str(error)))
    return LoadedRow(without_labels(sample) if is_filler else sample, key, None)


def _to_rgb_planes(crop: np.ndarray, flip: bool) -> UInt8[np.ndarray, "3 S S"]:
    """BGR picture with values in [0, 255] -> contiguous RGB planes, rounded to uint8."""
    if crop.dtype != np.uint8:
        crop = np.rint(crop).astype(np.uint8)
    if flip:
        crop = cv2.flip(crop, 1)
    planes = np.empty((3, *crop.shape[:2]), np.uint8)
    cv2.split(crop, [planes[2], planes[1], planes[0]])  # six times as fast as a transposition
    return planes
