"""Sample and Batch: the contract between the data room and everything that learns or measures.

A `Sample` is one row as small numpy arrays, made on the CPU. A `Batch` is the same fields as
tensors with a leading batch axis. Images stay uint8 until they are on the device (see
`normalize.py`): a sample is 150 kB instead of 600 kB, and colour gain, division and normalisation
cost the device next to nothing.

torch is imported only where tensors are made, so that tasks which decode rows do not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from metro_ray.bodies.spec import MeshSpec


class Sample(NamedTuple):
    """One row of a data set, cropped and augmented.

    L label joints (24 body, 21 hand), P pose numbers, S betas, N tokens (joints, then coarse
    vertices).
    """

    row_id: np.int64
    """Position of the row in the data set (after the linelist)."""
    image: UInt8[np.ndarray, "3 H W"]
    """RGB crop, contiguous, before colour gain and normalisation."""
    pixel_gain: Float[np.ndarray, " 3"]
    """Factor of the R, G and B channel (METRO's pixel noise); ones in evaluation."""
    keypoints_2d: Float[np.ndarray, "L 3"]
    """x right, y down in crop coordinates [-1, 1], and confidence."""
    joints_3d: Float[np.ndarray, "L 4"]
    """Metres relative to the label's root joint, and confidence."""
    pose: Float[np.ndarray, " P"]
    """Axis-angle, radians, global orientation first; zeros where the row has another body model."""
    betas: Float[np.ndarray, " S"]
    """Shape coefficients, no unit."""
    has_mesh: np.bool_
    """Whether pose and betas describe this spec's body model."""
    has_joints_3d: np.bool_
    has_keypoints_2d: np.bool_
    token_mask: Float[np.ndarray, "N 1"]
    """1 keep, 0 mask (masked vertex and joint modelling); all ones in evaluation."""
    center: Float[np.ndarray, 2]
    """Centre of the box in pixels of the original image."""
    scale: np.float32
    """Box side / 200 px, after augmentation."""
    source: np.int64
    """Which file of a composite data set the row came from; 0 otherwise."""
    valid: np.bool_
    """False for a broken row and for a filler of a short batch: no loss, no metric."""


class Batch(NamedTuple):
    """`Sample`s stacked along a first axis B; the fields mean the same."""

    row_id: Int[Tensor, " B"]
    image: UInt8[Tensor, "B 3 H W"]
    pixel_gain: Float[Tensor, "B 3"]
    keypoints_2d: Float[Tensor, "B L 3"]
    joints_3d: Float[Tensor, "B L 4"]
    pose: Float[Tensor, "B P"]
    betas: Float[Tensor, "B S"]
    has_mesh: Bool[Tensor, " B"]
    has_joints_3d: Bool[Tensor, " B"]
    has_keypoints_2d: Bool[Tensor, " B"]
    token_mask: Float[Tensor, "B N 1"]
    center: Float[Tensor, "B 2"]
    scale: Float[Tensor, " B"]
    source: Int[Tensor, " B"]
    valid: Bool[Tensor, " B"]
    keys: tuple[str, ...] | None = None
    """Keys of the rows, for reports; None where they were not asked for."""

    @property
    def num_rows(self) -> int:
        """Rows of the batch, fillers and broken rows included."""
        return len(self.row_id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy every tensor to `device`; `keys` stay where they are."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Copy every tensor to page-locked memory, from which a GPU can copy without waiting."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Any) -> Batch:
        tensors = {name: change(getattr(self, name)) for name in Sample._fields}
        return self._replace(**tensors)


def blank_sample(spec: MeshSpec, row_id: int, source: int = 0, image_size: int = 224) -> Sample:
    """A black, label-free sample with `valid` false, standing in for a row that cannot be read."""
    joints = len(spec.label_joints)
    return Sample(
        row_id=np.int64(row_id),
        image=np.zeros((3, image_size, image_size), np.uint8),
        pixel_gain=np.ones(3, np.float32),
        keypoints_2d=np.zeros((joints, 3), np.float32),
        joints_3d=np.zeros((joints, 4), np.float32),
        pose=np.zeros(spec.num_pose, np.float32),
        betas=np.zeros(spec.num_betas, np.float32),
        has_mesh=np.bool_(False),
        has_joints_3d=np.bool_(False),
        has_keypoints_2d=np.bool_(False),
        token_mask=np.ones((spec.num_tokens, 1), np.float32),
        center=np.zeros(2, np.float32),
        scale=np.float32(1.0),
        source=np.int64(source),
        valid=np.bool_(False),
    )


def without_labels(sample: Sample) -> Sample:
    """The same picture, all labels switched off and `valid` false: a filler of a short batch."""
    off = np.bool_(False)
    return sample._replace(has_mesh=off, has_joints_3d=off, has_keypoints_2d=off, valid=off)


def stack_samples(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """One array per field with a first axis over samples: what travels between processes."""
    return {name: np.stack([getattr(s, name) for s in samples]) for name in Sample._fields}


def batch_from_arrays(arrays: Mapping[str, np.ndarray], keys: Sequence[str] | None = None) -> Batch:
    """Turn stacked arrays into a Batch; memory is shared with arrays that are writable."""
    import torch

    def tensor(array: np.ndarray) -> Tensor:
        usable = array.flags.c_contiguous and array.flags.writeable
        return torch.from_numpy(array if usable else array.copy(order="C"))

    tensors = {name: tensor(np.asarray(arrays[name])) for name in Sample._fields}
    return Batch(**tensors, keys=None if keys is None else tuple(keys))


def collate(samples: Sequence[Sample], keys: Sequence[str] | None = None) -> Batch:
    """Stack samples of one spec into a Batch."""
    return batch_from_arrays(stack_samples(samples), keys)
