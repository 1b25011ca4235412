"""Predictor: RGB pictures and boxes in, meshes out. Knows nothing of files, HTTP or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError
from metro_ray.evaluation.evaluate import eval_mode
from metro_ray.geometry.boxes import Box, Window
from metro_ray.inference.cutouts import Cutout, Hand, cut_out
from metro_ray.inference.result import (
    AttentionMaps,
    MeshArrays,
    MeshResult,
    mirrored,
    turned,
)
from metro_ray.models.precision import Precision, autocast

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.models.metro import MeshPrediction


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
        self._turned_faces = turned(self.faces)
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
        hands: Sequence[Hand | None] | None = None,
        return_attention: bool = False,
    ) -> list[MeshResult]:
        """One mesh per picture; a picture with several people is given once for each.

        Args:
            images: RGB, uint8, any size each.
            boxes: around the person or hand in each picture; None, or None in its place, takes the
                middle of the picture, as METRO's demo does.
            hands: which hand each picture shows; None, or None in its place, is a right hand, what
                networks of hands are trained on, or no hand at all.
            return_attention: also give attention maps and hidden states; those of a left hand are
                of its mirrored picture.

        Raises:
            DataError: a picture of another type or shape, another number of boxes or hands, a box
                that is degenerate, or hands asked of a network of bodies; names the picture's
                number.
        """
        boxes = [None] * len(images) if boxes is None else boxes
        hands = [None] * len(images) if hands is None else hands
        for what, given in (("boxes", boxes), ("hands", hands)):
            if len(given) != len(images):
                raise DataError(
                    f"got {len(given)} {what} for {len(images)} pictures; give one for each"
                )
        cutouts: list[Cutout] = []
        for number, (image, box, hand) in enumerate(zip(images, boxes, hands, strict=True)):
            try:
                cutouts.append(self.cut_out(image, box, hand))
            except DataError as error:
                raise DataError(f"picture {number}: {error}") from error
        return self.predict_cutouts(cutouts, return_attention=return_attention)

    def cut_out(
        self, image: UInt8[np.ndarray, "H W 3"], box: Box | None = None, hand: Hand | None = None
    ) -> Cutout:
        """What the network will see of a picture; arguments and errors as in `predict`."""
        spec = self.body.spec
        if hand is not None and spec.kind != "hand":
            raise DataError(
                f"a {hand} hand is asked for, but this network predicts bodies ({spec.name}): give "
                "a checkpoint of hands, or leave the hand out"
            )
        return cut_out(image, box, self.image_size, mirror=hand == "left")

    def predict_cutouts(
        self, cutouts: Sequence[Cutout], *, return_attention: bool = False
    ) -> list[MeshResult]:
        """One mesh per cutout, in the frame of its picture whether it is mirrored or not."""
        if not cutouts:
            return []
        crops = np.stack([cutout.pixels for cutout in cutouts])
        windows = [cutout.window for cutout in cutouts]
        results = self.predict_crops(crops, windows, return_attention=return_attention)
        return [
            result
            if cutout.mirror_width is None
            else mirrored(result, cutout.mirror_width, self._turned_faces)
            for result, cutout in zip(results, cutouts, strict=True)
        ]

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
        arrays, prediction = self._forward(crops, options)
        joint_set = self.body.spec.joints
        results = [
            arrays.result(number, window, self.faces, joint_set)
            for number, window in enumerate(windows)
        ]
        if not return_attention:
            return results
        assert prediction.attentions is not None
        assert prediction.hidden_states is not None
        maps = zip(
            _by_picture(prediction.attentions), _by_picture(prediction.hidden_states), strict=True
        )
        return [
            result._replace(attention=AttentionMaps(*both))
            for result, both in zip(results, maps, strict=True)
        ]

    def predict_arrays(self, crops: UInt8[np.ndarray, "B 3 S S"]) -> MeshArrays:
        """What the network says about ready crops, in one batch whatever `batch_size` says."""
        return self._forward(crops, {})[0]

    def _forward(
        self, crops: UInt8[np.ndarray, "B 3 S S"], options: dict[str, bool]
    ) -> tuple[MeshArrays, MeshPrediction]:
        pictures = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device)
        with torch.inference_mode(), eval_mode(self.model):
            images = normalize_images(pictures).contiguous(memory_format=self._memory_format)
            with autocast(self.device, self.precision):
                prediction = self.model(images, **options)
            return self._arrays(prediction), prediction

    def _arrays(self, prediction: MeshPrediction) -> MeshArrays:
        vertices = prediction.vertices[-1].float()
        root = self.body.root_from_mesh(vertices)
        joints = self.body.joints_from_mesh(vertices) - root
        # The camera is for the mesh as predicted; its root moves into the translation.
        cameras = prediction.camera.float() + torch.nn.functional.pad(root[:, 0, :2], (1, 0))
        return MeshArrays(
            (vertices - root).cpu().numpy(), joints.cpu().numpy(), cameras.cpu().numpy()
        )


def _by_picture(layers: Sequence[Tensor]) -> Float32[np.ndarray, "B L ..."]:
    return torch.stack([layer.float() for layer in layers], dim=1).cpu().numpy()


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
        raise DataError(
            f"{path} is no picture that can be read: {error} "
            "(expected JPEG, PNG, BMP, WebP or TIFF)"
        ) from error
