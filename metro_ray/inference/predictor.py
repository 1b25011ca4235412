"""Predictor: RGB pictures and boxes in, meshes out. Knows nothing of files, HTTP or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError
from metro_ray.evaluation.evaluate import eval_mode
from metro_ray.geometry.boxes import PIXELS_PER_SCALE, Box, Window, crop_window
from metro_ray.geometry.crop import crop_fast
from metro_ray.inference.result import AttentionMaps, MeshResult, place_in_picture
from metro_ray.models.precision import Precision, autocast

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel


class Predictor:
    """A model ready for pictures.

    Args:
        model: a `Metro` of the body's spec; moved to `device`.
        body: the body model whose mesh is predicted; moved to `device`.
        device: where to compute.
        precision: bf16 and fp16 run the network under autocast.
        channels_last: memory format of the images.
        batch_size: pictures that go through the network at once.
        image_size: side of the crop that the network takes, pixels.
    """

    def __init__(
        self,
        model: nn.Module,
        body: BodyModel,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "fp32",
        channels_last: bool = False,
        batch_size: int = 16,
        image_size: int = 224,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.body = body.to(self.device)
        self.faces = self.body.faces.cpu().numpy().astype(np.int32)
        self.precision: Precision = precision
        self.batch_size = batch_size
        self.image_size = image_size
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @classmethod
    def from_checkpoint(
        cls,
        folder: str | Path,
        device: torch.device | str = "cpu",
        *,
        precision: Precision | None = None,
        batch_size: int = 16,
        assets_root: str | Path | None = None,
    ) -> Predictor:
        """Rebuild the network of a checkpoint folder, e.g. `checkpoints/best` of a run.

        Args:
            folder: of the checkpoint.
            device: where to compute.
            precision: None takes the one it was trained in.
            batch_size: pictures that go through the network at once.
            assets_root: where licensed body models are; None takes the checkpoint's setting.

        Raises:
            CheckpointError: incomplete or broken folder.
            AssetNotFoundError: its body model is not on this machine.
        """
        # Imported here because training shows its predictions through this module.
        from metro_ray.training.checkpoint import load_predictor_parts

        parts = load_predictor_parts(Path(folder), assets_root)
        return cls(
            parts.model,
            parts.body,
            device,
            precision=precision or parts.config.optim.precision,
            channels_last=parts.config.optim.channels_last,
            batch_size=batch_size,
            image_size=parts.config.data.image_size,
        )

    def predict(
        self,
        images: Sequence[UInt8[np.ndarray, "H W 3"]],
        boxes: Sequence[Box | None] | None = None,
        *,
        return_attention: bool = False,
    ) -> list[MeshResult]:
        """One mesh per picture.

        Args:
            images: RGB, uint8, any size each.
            boxes: around the person or hand in each picture; None, or None in its place, takes the
                whole picture.
            return_attention: also give attention maps and hidden states.

        Raises:
            DataError: a picture of another type or shape, another number of boxes, or a box that
                is degenerate; names the picture's number.
        """
        if boxes is None:
            boxes = [None] * len(images)
        if len(boxes) != len(images):
            raise DataError(f"got {len(boxes)} boxes for {len(images)} pictures; give one for each")
        crops: list[np.ndarray] = []
        windows: list[Window] = []
        for number, (image, box) in enumerate(zip(images, boxes, strict=True)):
            try:
                _check_picture(image)
                center, scale = whole_picture(image) if box is None else box
                windows.append(crop_window(center, scale, self.image_size))
                crop = crop_fast(image, center, scale, self.image_size)
            except DataError as error:
                raise DataError(f"picture {number}: {error}") from error
            crops.append(crop.transpose(2, 0, 1))
        if not crops:
            return []
        return self.predict_crops(np.stack(crops), windows, return_attention=return_attention)

    def predict_crops(
        self,
        crops: UInt8[np.ndarray, "B 3 S S"],
        windows: Sequence[Window],
        *,
        return_attention: bool = False,
    ) -> list[MeshResult]:
        """One mesh per ready crop.

        Args:
            crops: RGB planes as `Sample.image` holds them.
            windows: the part of its picture that each crop shows.
            return_attention: also give attention maps and hidden states.
        """
        results: list[MeshResult] = []
        for start in range(0, len(crops), self.batch_size):
            part = slice(start, start + self.batch_size)
            results += self._predict_batch(crops[part], windows[part], return_attention)
        return results

    def _predict_batch(
        self,
        crops: UInt8[np.ndarray, "B 3 S S"],
        windows: Sequence[Window],
        return_attention: bool,
    ) -> list[MeshResult]:
        options = {"return_attention": True} if return_attention else {}
        pictures = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        with torch.inference_mode(), eval_mode(self.model):
            images = normalize_images(pictures).contiguous(memory_format=self._memory_format)
            with autocast(self.device, self.precision):
                prediction = self.model(images, **options)
            results = self._results(prediction.vertices[-1], prediction.camera, windows)
        if not return_attention:
            return results
        maps = zip(
            _by_picture(prediction.attentions), _by_picture(prediction.hidden_states), strict=True
        )
        return [
            result._replace(attention=AttentionMaps(*both))
            for result, both in zip(results, maps, strict=True)
        ]

    def _results(
        self,
        vertices: Float[Tensor, "B V 3"],
        camera: Float[Tensor, "B 3"],
        windows: Sequence[Window],
    ) -> list[MeshResult]:
        vertices = vertices.float()
        root = self.body.root_from_mesh(vertices)
        joints = (self.body.joints_from_mesh(vertices) - root).cpu().numpy()
        # The camera is for the mesh as predicted; its root moves into the translation.
        cameras = camera.float() + torch.nn.functional.pad(root[:, 0, :2], (1, 0))
        meshes, cameras = (vertices - root).cpu().numpy(), cameras.cpu().numpy()
        return [
            MeshResult(
                vertices=mesh,
                joints=points,
                camera=view,
                window=window,
                vertices_px=place_in_picture(mesh, view, window),
                joints_px=place_in_picture(points, view, window),
                faces=self.faces,
                joint_set=self.body.spec.joints,
            )
            for mesh, points, view, window in zip(meshes, joints, cameras, windows, strict=True)
        ]


def _by_picture(layers: Sequence[Tensor]) -> Float32[np.ndarray, "B L ..."]:
    return torch.stack([layer.float() for layer in layers], dim=1).cpu().numpy()


def whole_picture(image: UInt8[np.ndarray, "H W 3"]) -> Box:
    """The square box around the middle of a picture that holds all of it."""
    height, width = image.shape[:2]
    return Box((width / 2, height / 2), max(height, width) / PIXELS_PER_SCALE)


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture file as RGB, EXIF orientation applied.

    Raises:
        DataError: no such file, or not a whole picture.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"picture {path} does not exist")
    try:
        return np.ascontiguousarray(decode_image(path.read_bytes())[:, :, ::-1])
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _check_picture(image: object) -> None:
    shape = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", type(image).__name__)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(f"expected RGB, uint8, shape (H, W, 3), got {dtype} of shape {shape}")
