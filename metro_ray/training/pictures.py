"""Predictions on a few validation images, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch

from metro_ray.data.labels import parse_label
from metro_ray.data.sample import Batch, Sample, collate
from metro_ray.data.transform import decode_image
from metro_ray.errors import DataError, TrainingError
from metro_ray.evaluation.evaluate import RootRelative, measure, target_mesh
from metro_ray.geometry.boxes import Box
from metro_ray.inference import MeshResult, Predictor
from metro_ray.inference.gallery import GalleryItem, write_gallery
from metro_ray.inference.render import draw_joints, overlay, side_view
from metro_ray.inference.result import close_up
from metro_ray.losses import build_targets
from metro_ray.training.data_source import label_sample, open_split
from metro_ray.training.files import write_bytes

if TYPE_CHECKING:
    from metro_ray.bodies import BodyModel
    from metro_ray.config.schema import TrainConfig
    from metro_ray.data.rows import RowDataset
    from metro_ray.models import Metro


_GRID_ROWS, _GRID_PX = 4, 224


class _Picture(NamedTuple):
    key: str
    image: np.ndarray
    """(H, W, 3) RGB uint8."""
    box: Box
    labels: Sample


class EpochPictures:
    """The same few validation images with their predictions after each epoch, as one PNG.

    Columns: photograph, mesh over it, joints over it, mesh from the side.

    Args:
        config: Of the run; `eval.gallery_images` bounds the number of images.
        body: On the model's device.
    """

    def __init__(self, config: TrainConfig, body: BodyModel) -> None:
        self._config, self._body = config, body
        self._pictures: list[_Picture] | None = None

    def draw(self, model: Metro, epoch: int) -> Path | None:
        """Write `pictures/epoch-NNN.png` into the run's folder; None where there is nothing to see.

        Args:
            model: With the weights to show, on its device.
            epoch: Complete epochs, for the name.

        Raises:
            DataError: The validation set cannot be opened.
        """
        if self._pictures is None:
            dataset = open_split(self._config, self._body.spec, "val")
            count = min(_GRID_ROWS, self._config.eval.gallery_images)
            rows = [] if dataset is None else _spread(len(dataset), count)
            found = {} if dataset is None else _read(dataset, self._body, rows)
            self._pictures = list(found.values())
        if not self._pictures:
            return None
        predictor = _make_predictor(self._config, model, self._body)
        results = predictor.predict(
            [picture.image for picture in self._pictures],
            [picture.box for picture in self._pictures],
        )
        rows = [_grid_row(p.image, r) for p, r in zip(self._pictures, results, strict=True)]
        path = Path(self._config.run.output_dir) / "pictures" / f"epoch-{epoch:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded, data = cv2.imencode(".png", np.concatenate(rows)[:, :, ::-1])
        assert encoded
        write_bytes(path, data.tobytes())
        return path


def _grid_row(image: np.ndarray, result: MeshResult) -> np.ndarray:
    cut, inside = close_up(image, result, _GRID_PX)
    views = (cut, overlay(cut, inside), draw_joints(cut, inside), side_view(result, _GRID_PX))
    return np.concatenate(views, axis=1)


def render_gallery(
    config: TrainConfig,
    run_dir: Path,
    model: Metro,
    body: BodyModel,
    *,
    metrics: Mapping[str, float],
) -> Path:
    """Write `gallery.html` with `eval.gallery_images` validation images into the run's folder.

    Args:
        config: Of the run; its validation set is read again, evenly spread.
        run_dir: The run's folder.
        model: With the weights to show.
        body: On the model's device.
        metrics: `val/..` and `baseline/..` numbers for the table.

    Raises:
        TrainingError: There is no picture to show.
        DataError: The validation set cannot be opened.
    """
    dataset = open_split(config, body.spec, "val")
    if dataset is None:
        raise TrainingError("data.val_yaml is not given")
    row_ids = _spread(len(dataset), config.eval.gallery_images)
    items = list(predict_rows(config, dataset, row_ids, model, body).values())
    if not items:
        raise TrainingError("eval.gallery_images is 0, or no validation row can be read")
    return write_gallery(
        run_dir,
        items,
        title=f"METRO {config.kind}: {config.model.arch}, {body.spec.name}",
        metrics=metrics,
        notes=[f"{len(items)} of {len(dataset)} validation images, evenly spread."],
    )


def predict_rows(
    config: TrainConfig, dataset: RowDataset, row_ids: Sequence[int], model: Metro, body: BodyModel
) -> dict[int, GalleryItem]:
    """Picture, prediction, truth and errors of rows by their number.

    Rows that cannot be read are left out: the loader has counted and named them.

    Args:
        config: Of the run.
        dataset: Of the rows.
        row_ids: Their numbers.
        model: On its device.
        body: On the model's device.
    """
    pictures = _read(dataset, body, sorted(row_ids))  # the order of every table of errors
    if not pictures:
        return {}
    predictor = _make_predictor(config, model, body)
    shown = list(pictures.values())
    results = predictor.predict([p.image for p in shown], [p.box for p in shown])
    items = _items(shown, results, body, predictor.device)
    return dict(zip(pictures, items, strict=True))


def _make_predictor(config: TrainConfig, model: Metro, body: BodyModel) -> Predictor:
    return Predictor(
        model,
        body,
        next(model.parameters()).device,
        precision=config.optim.precision,
        channels_last=config.optim.channels_last,
        image_size=config.data.image_size,
    )


def _spread(num_rows: int, count: int) -> list[int]:
    """Numbers of `count` rows, evenly spread."""
    return [int(row) for row in np.linspace(0, num_rows - 1, min(count, num_rows)).round()]


def _read(dataset: RowDataset, body: BodyModel, row_ids: Sequence[int]) -> dict[int, _Picture]:
    """The rows that can be read, by their number."""
    found: dict[int, _Picture] = {}
    for row_id in row_ids:
        try:
            row = dataset.row(row_id)
            label = parse_label(row.label, body.spec)
            image = np.ascontiguousarray(decode_image(row.image_bytes)[:, :, ::-1])
        except DataError:
            continue
        box = Box(label.center, label.scale)
        found[row_id] = _Picture(row.key, image, box, label_sample(row, row_id, body.spec))
    return found


def _items(
    pictures: list[_Picture], results: list[MeshResult], body: BodyModel, device: torch.device
) -> list[GalleryItem]:
    """Put predictions, ground truth and errors of each picture together."""
    batch = collate([picture.labels for picture in pictures]).to(device)

    def predicted(_: Batch) -> RootRelative:
        vertices = np.stack([result.vertices for result in results])
        joints = np.stack([result.joints for result in results])
        return RootRelative(
            torch.from_numpy(vertices).to(device), torch.from_numpy(joints).to(device)
        )

    table = measure(predicted, body, [batch], device, split="gallery").table
    targets = build_targets(batch, body)
    truth = target_mesh(targets, body).cpu().numpy()
    has_mesh = targets.has_mesh.tolist()
    errors = {"MPJPE": table.mpjpe, "PA-MPJPE": table.pa_mpjpe, "MPVE": table.mpve}
    exists = {"MPJPE": table.has_joints_3d, "PA-MPJPE": table.has_joints_3d, "MPVE": table.has_mesh}
    return [
        GalleryItem(
            title=picture.key,
            image=picture.image,
            result=result,
            errors_mm={n: 1000.0 * float(e[i]) for n, e in errors.items() if exists[n][i]},
            truth=truth[i] if has_mesh[i] else None,
        )
        for i, (picture, result) in enumerate(zip(pictures, results, strict=True))
    ]
