"""A network as an ONNX file: crops in, meshes out, no PyTorch needed to run it.

The graph holds all that `Predictor` does with a batch of crops: ImageNet's normalisation, the
network with BatchNorm folded into its convolutions, joints regressed from the mesh, its root moved
to the origin.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

from metro_ray.data.normalize import normalize_images
from metro_ray.errors import ConfigError
from metro_ray.inference.onnx_network import INPUT, OUTPUTS, OnnxCard
from metro_ray.models.fold import fold_batch_norm

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.models import Metro
    from metro_ray.training.checkpoint import PredictorParts

_OPSET = 20
_EXAMPLE_BATCH = 2
"""Any but 1, which would be taken for a size that never changes."""


class _CropsToMeshes(nn.Module):
    """The graph that is written."""

    joint_regressor: Tensor
    root_regressor: Tensor
    triangles: Tensor

    def __init__(self, model: Metro, body: BodyModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("joint_regressor", body.joint_regressor)
        self.register_buffer("root_regressor", body.root_regressor)
        self.register_buffer("triangles", body.faces.to(torch.int32))

    def forward(
        self, crops: UInt8[Tensor, "B 3 S S"]
    ) -> tuple[
        Float[Tensor, "B V 3"], Float[Tensor, "B J 3"], Float[Tensor, "B 3"], Int32[Tensor, "F 3"]
    ]:
        prediction = self.model(normalize_images(crops))
        vertices = prediction.vertices[-1]
        root = self.root_regressor @ vertices
        joints = self.joint_regressor @ vertices - root
        # The camera is for the mesh as predicted; its root moves into the translation.
        cameras = prediction.camera + nn.functional.pad(root[:, 0, :2], (1, 0))
        return vertices - root, joints, cameras, self.triangles.clone()


def write_onnx(parts: PredictorParts, version: str, path: Path) -> OnnxCard:
    """A checkpoint as an ONNX file, see `export_onnx`.

    Args:
        parts: of the checkpoint.
        version: of its weights, see `version_of`.
        path: of the file.

    Raises:
        ConfigError: the extra `onnx` is missing, or this network cannot be written.
    """
    spec = parts.body.spec
    card = OnnxCard(
        version=version,
        body_model=spec.name,
        kind=spec.kind,
        arch=parts.config.model.arch,
        image_size=parts.config.data.image_size,
        joint_names=tuple(spec.joints.names),
    )
    export_onnx(parts.model, parts.body, path, card)
    return card


def export_onnx(model: Metro, body: BodyModel, path: Path, card: OnnxCard) -> None:
    """Write a network as an ONNX file, for batches of any size, in float32.

    Args:
        model: in evaluation mode, on the CPU; is not changed.
        body: the body model whose mesh is predicted, on the CPU.
        path: of the file; an earlier one is replaced when the new one is whole.
        card: what the file says about itself.

    Raises:
        ConfigError: the packages of the extra `onnx` are missing, or PyTorch cannot export this
            network, as may happen with backbones from elsewhere.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "writing ONNX files needs onnx and onnxscript: pip install 'metro-ray[onnx]'"
        ) from error
    backbone = model.backbone
    model.backbone = fold_batch_norm(backbone)  # a copy
    try:
        program = _exported(_CropsToMeshes(model, body).eval(), card.image_size)
    finally:
        model.backbone = backbone
    program.model.metadata_props.update(card.properties())
    partial = path.with_name(f".{path.name}.partial")
    try:
        program.save(partial, external_data=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _exported(network: nn.Module, image_size: int) -> torch.onnx.ONNXProgram:
    crops = torch.zeros((_EXAMPLE_BATCH, 3, image_size, image_size), dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (crops,),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[*OUTPUTS, "faces"],
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"PyTorch cannot write this network as ONNX: {reason}\nThe backbones hrnet-* and "
            "resnet50 can be written; others depend on what they are made of."
        ) from error
    return cast(torch.onnx.ONNXProgram, program)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about packages that are not needed."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
