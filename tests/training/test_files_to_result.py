"""From TSV files to `result.json`, with the local data source and everything behind the last step."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from metro_ray.data.writer import TsvDatasetWriter
from metro_ray.errors import DataError
from metro_ray.training.checkpoint_meta import read_meta
from metro_ray.training.context import LocalWorker
from metro_ray.training.data_source import LocalDataSource, label_batches, open_split
from metro_ray.training.loop import fit


def label_of(body, number, **changes):
    rng = np.random.default_rng(number)
    pose, betas = np.zeros(72), rng.uniform(-1, 1, 10)
    pose[:3] = rng.uniform(-1, 1, 3)
    with torch.no_grad():
        posed = body(*(torch.from_numpy(x).float()[None] for x in (pose, betas)))
    joints = np.ones((24, 4))
    joints[list(body.spec.label_to_joints), :3] = body.joints_from_mesh(posed.vertices)[0]
    joints[14, :3] = body.root_from_mesh(posed.vertices)[0]
    keypoints = np.ones((24, 3))
    keypoints[:, :2] = 40 + 15 * joints[:, :2]
    label = {
        "center": [40.0, 30.0], "scale": 0.3, "2d_joints": keypoints, "has_2d_joints": 1,
        "3d_joints": joints, "has_3d_joints": 1, "pose": pose, "betas": betas, "has_smpl": 1,
    }  # fmt: skip
    return {**label, **changes}


def write(folder, body, name, numbers, broken=(), **changes):
    with TsvDatasetWriter(folder, name) as writer:
        for number in numbers:
            picture = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
            encoded = cv2.imencode(".png", picture)[1].tobytes()
            image = b"\xff\xd8 cut" if number in broken else encoded
            writer.add(f"image_{number}.png", image, label_of(body, number, **changes), 60, 80)
    return str(folder / f"{name}.yaml")


@pytest.fixture
def files(body, tmp_path):
    return {
        "data__train_yaml": write(tmp_path, body, "train", range(6), broken=(2,)),
        "data__val_yaml": write(tmp_path, body, "val", range(10, 15)),
        "data__loader_workers": 1,
    }


def test_rows_that_an_earlier_part_of_the_run_could_not_read_are_still_told(
    body, make_config, files
):
    """The row is mended between the parts: only the first one met it."""
    config = make_config(optim__epochs=1, **files)
    fit(config, LocalWorker("cpu"), LocalDataSource(config, body.spec), body=body)
    last = Path(config.run.output_dir) / "checkpoints" / "last"
    mended = {**files, "data__train_yaml": files["data__train_yaml"].replace("train", "mended")}
    write(Path(files["data__train_yaml"]).parent, body, "mended", range(6))
    more = make_config(optim__epochs=2, **mended)
    source = LocalDataSource(more, body.spec)
    result = fit(more, LocalWorker("cpu", checkpoint=last), source, body=body).result
    assert result["epochs"] == 2
    assert source.bad_rows() == {"count": 0, "rows": []}
    assert result["bad_rows"]["count"] == 1
    [bad] = result["bad_rows"]["rows"]
    assert (bad["split"], bad["row"], bad["key"]) == ("train", 2, "image_2.png")
    page = (Path(more.run.output_dir) / "report.html").read_text()
    assert "1 rows could not be read;" in page


def test_run_from_files(body, make_config, files):
    config = make_config(eval__gallery_images=2, **files)
    data = LocalDataSource(config, body.spec)
    assert data.num_train_batches() == 3
    result = fit(config, LocalWorker("cpu"), data, body=body).result
    assert result["reasons"] == {}
    assert result["bad_rows"]["count"] == 1
    assert result["bad_rows"]["rows"][0]["key"] == "image_2.png"
    assert result["val/num_rows"] == 5
    for split in ("val", "baseline"):
        assert all(result[f"{split}/{name}_mm"] > 0 for name in ("mpjpe", "pa_mpjpe", "mpve"))
    page = (Path(config.run.output_dir) / "gallery.html").read_text()
    assert result["gallery"] == str(Path(config.run.output_dir) / "gallery.html")
    assert "image_10.png" in page
    assert "image_14.png" in page
    assert json.loads((Path(config.run.output_dir) / "result.json").read_text()) == json.loads(
        json.dumps(result)
    )


def test_pictures_of_the_epochs_show_the_same_images(body, make_config, files):
    config = make_config(eval__gallery_images=2, eval__pictures_every=2, optim__epochs=4, **files)
    fit(config, LocalWorker("cpu"), LocalDataSource(config, body.spec), body=body)
    folder = Path(config.run.output_dir) / "pictures"
    drawn = sorted(folder.glob("epoch-*.png"))
    assert [path.name for path in drawn] == ["epoch-002.png", "epoch-004.png"]
    first, last = (cv2.imread(str(path)) for path in drawn)
    assert first.shape == (2 * 224, 4 * 224, 3)
    np.testing.assert_array_equal(first[:, :224], last[:, :224])
    assert (first[:, 224:] != last[:, 224:]).any(), "the network has changed"


def test_rows_without_meshes_train_on_joints_and_say_what_is_missing(body, make_config, tmp_path):
    config = make_config(
        data__train_yaml=write(tmp_path, body, "train", range(4), body_model="anny_body"),
        data__val_yaml=write(tmp_path, body, "val", range(10, 13), body_model="anny_body"),
        data__loader_workers=0,
        eval__gallery_images=1,
    )
    run = fit(config, LocalWorker("cpu"), LocalDataSource(config, body.spec), body=body)
    result = run.result
    assert result["val/mpjpe_mm"] > 0
    written = json.loads((run.run_dir / "result.json").read_text())
    assert written == json.loads(json.dumps(result, allow_nan=False))
    assert written["val/mpve_mm"] is None
    assert "labelled with a mesh of smpl" in written["reasons"]["val/mpve_mm"]
    assert written["baseline/mpve_mm"] is None
    assert read_meta(run.checkpoint).metrics["val/mpve_mm"] is None
    assert "val/mpve_mm" not in run.metrics
    assert not any(math.isnan(value) for value in run.metrics.values())


def test_batches_continue_inside_an_epoch(body, make_config, files):
    config = make_config(**files)
    whole = list(LocalDataSource(config, body.spec).train_batches(1))
    rest = list(LocalDataSource(config, body.spec).train_batches(1, start_row=2))
    assert len(rest) == len(whole) - 1 == 2
    for one, other in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.pose, other.pose)


def test_ranks_share_the_rows(body, make_config, files):
    config = make_config(**files)
    seen = [
        row
        for rank in (0, 1)
        for batch in LocalDataSource(config, body.spec, rank=rank, world_size=2).eval_batches()
        for row in batch.row_id[batch.valid].tolist()
    ]
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_labels_alone_equal_those_of_the_evaluation(body, make_config, files):
    config = make_config(**files)
    dataset = open_split(config, body.spec, "val")
    (labels,) = label_batches(dataset, body.spec)
    (first, *_) = LocalDataSource(config, body.spec).eval_batches()
    count = first.num_rows
    torch.testing.assert_close(labels.joints_3d[:count], first.joints_3d)
    posed = [body(batch.pose[:count], batch.betas[:count]).vertices for batch in (labels, first)]
    torch.testing.assert_close(*posed)
    spread = list(label_batches(dataset, body.spec, max_rows=2))
    assert spread[0].row_id.tolist() == [0, 4]


def test_missing_data_set_is_named(body, make_config):
    with pytest.raises(DataError, match=r"nowhere\.yaml does not exist"):
        LocalDataSource(make_config(data__train_yaml="nowhere.yaml"), body.spec)


def test_gallery_can_be_left_out(body, make_config, files):
    config = make_config(eval__gallery_images=0, optim__epochs=1, **files)
    run = fit(config, LocalWorker("cpu"), LocalDataSource(config, body.spec), body=body)
    assert run.result["gallery"] is None
    assert "eval.gallery_images is 0" in run.result["reasons"]["gallery"]
