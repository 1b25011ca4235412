"""All views of an image in one pass: decoded once, cropped, predicted in sub-batches, fused.

METRO goes through the data set once for each of its 95 views and fuses the 95 files afterwards.
Here `ViewLoader` reads a row once and makes its crops by the very transform that an evaluation
under that view uses, and `ViewPredictor` sends them through the network and adds them up as they
come. Neither keeps more than the crops of the rows in hand and one sum for each of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from metro_ray.data.augment import AugmentParams
from metro_ray.data.labels import parse_label
from metro_ray.data.normalize import normalize_images
from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.errors import DataError
from metro_ray.evaluation.evaluate import RootRelative, eval_mode, root_relative
from metro_ray.evaluation.tta import FusedMesh, ViewFusion, ViewPlan
from metro_ray.evaluation.tta_mirror import Mirror, find_mirror
from metro_ray.models.precision import Precision, autocast

if TYPE_CHECKING:
    from typing import Literal

    from metro_ray.bodies import BodyModel
    from metro_ray.bodies.spec import MeshSpec
    from metro_ray.data.rows import Row


class ViewLoader:
    """Rows to the crops of all their views; holds plain values only, so it pickles."""

    def __init__(
        self,
        spec: MeshSpec,
        plan: ViewPlan,
        *,
        crop_mode: Literal["metro", "fast"] = "metro",
        image_size: int = 224,
    ) -> None:
        self.plan = plan
        self._transform = SampleTransform(
            spec, train=False, crop_mode=crop_mode, image_size=image_size
        )
        self._params = [
            AugmentParams.identity(
                spec, rotation_deg=shot.view.rotation_deg, scale_factor=shot.view.scale
            )._replace(flip=shot.is_mirrored)
            for shot in plan.shots
        ]
        self.shape = (len(plan.shots), 3, image_size, image_size)
        """Of what a row becomes."""

    def __call__(self, row: Row) -> UInt8[np.ndarray, "V 3 S S"]:
        """RGB crops in the order of the plan's shots.

        Raises:
            DataError: the picture, the label or the box is broken; names the row's key.
        """
        try:
            label = parse_label(row.label, self._transform.spec)
            image = decode_image(row.image_bytes)
            crops = np.empty(self.shape, np.uint8)
            for crop, params in zip(crops, self._params, strict=True):
                crop[:] = self._transform.apply(image, label, params).image
        except DataError as error:
            raise DataError(f"{row.where} ({row.key}): {error}") from error
        return crops


class Meshes(NamedTuple):
    """Predictions of R rows, metres: float32 of one view, float64 of fused ones."""

    joints: Float[np.ndarray, "R J 3"]
    vertices: Float[np.ndarray, "R V 3"]


class ViewPredictor:
    """A network that predicts rows under a plan of views.

    Args:
        model: a `Metro` of the body's spec; moved to `device`.
        body: the body model whose mesh is predicted; moved to `device`. Predictions have the
            precision of its regressors, float32.
        plan: which crops each row has.
        device: where to compute.
        precision: bf16 and fp16 run the network under autocast; fusing is float64 either way.
        channels_last: memory format of images and weights.
        batch_size: crops that go through the network at once, of one row or of several.
        keep_root: do not subtract the regressed root (METRO's `--aml_eval`).

    Raises:
        ConfigError: the plan has mirrored views and the mesh has no mirror.
    """

    def __init__(
        self,
        model: nn.Module,
        body: BodyModel,
        plan: ViewPlan,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "fp32",
        channels_last: bool = False,
        batch_size: int = 32,
        keep_root: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._model = model.to(self._device)
        if channels_last:
            self._model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._body = body.to(self._device)
        self._plan = plan
        self._precision: Precision = precision
        self._batch_size = batch_size
        self._keep_root = keep_root
        flags = [shot.is_mirrored for shot in plan.shots]
        self._mirror: Mirror | None = find_mirror(body) if any(flags) else None
        self._is_mirrored = torch.tensor(flags, device=self._device)

    def __call__(self, crops: UInt8[np.ndarray, "R V 3 S S"]) -> Meshes:
        """Predict rows, each under every view of the plan."""
        num_rows, num_shots = crops.shape[:2]
        flat = crops.reshape(num_rows * num_shots, *crops.shape[2:])
        rows: list[_RowSum] = [_RowSum(self._plan) for _ in range(num_rows)]
        with self._computing():
            for start in range(0, len(flat), self._batch_size):
                part = flat[start : start + self._batch_size]
                numbers = torch.arange(start, start + len(part), device=self._device)
                predicted = self._predict(torch.from_numpy(part), numbers % num_shots)
                for row in range(start // num_shots, (start + len(part) - 1) // num_shots + 1):
                    first = max(row * num_shots - start, 0)
                    mine = slice(first, (row + 1) * num_shots - start)
                    rows[row].add(predicted.joints[mine], predicted.vertices[mine])
            results = [row.result() for row in rows]
        joints, vertices = (torch.cat(parts).cpu().numpy() for parts in zip(*results, strict=True))
        return Meshes(joints, vertices)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Autocast is entered once, so that it converts each weight once and not once a batch.

        In inference mode it would not keep what it has converted.
        """
        with (
            torch.no_grad(),
            eval_mode(self._model),
            autocast(self._device, self._precision),
        ):
            yield

    def _predict(self, images: UInt8[Tensor, "B 3 S S"], shots: Int[Tensor, " B"]) -> RootRelative:
        pixels = normalize_images(images.to(self._device))
        mesh = self._model(pixels.contiguous(memory_format=self._memory_format)).vertices[-1]
        with autocast(self._device, "fp32"):
            vertices = mesh.to(self._body.joint_regressor.dtype)
            if self._keep_root:
                result = RootRelative(vertices, self._body.joints_from_mesh(vertices))
            else:
                result = root_relative(vertices, self._body)
            return self._mirrored_back(result, self._is_mirrored[shots])

    def _mirrored_back(self, prediction: RootRelative, flags: Tensor) -> RootRelative:
        if self._mirror is None:
            return prediction
        swapped = self._mirror.apply(prediction)
        chosen = flags[:, None, None]
        return RootRelative(
            torch.where(chosen, swapped.vertices, prediction.vertices),
            torch.where(chosen, swapped.joints, prediction.joints),
        )


class _RowSum:
    """What becomes of one row's views: the first is the reference, or the only one."""

    def __init__(self, plan: ViewPlan) -> None:
        self._plan = plan
        self._fusion: ViewFusion | None = None
        self._only: FusedMesh | None = None

    def add(self, joints: Float[Tensor, "K J 3"], vertices: Float[Tensor, "K V 3"]) -> None:
        if not self._plan.is_fused:
            self._only = FusedMesh(joints, vertices)
            return
        if self._fusion is None:
            self._fusion = ViewFusion(joints[:1], vertices[:1])
            if not self._plan.counts_reference:
                joints, vertices = joints[1:], vertices[1:]
        if len(joints):
            self._fusion.add_views(joints, vertices)

    def result(self) -> FusedMesh:
        result = self._only if self._fusion is None else self._fusion.result()
        assert result is not None
        return result
