"""UP-3D with METRO's label rules."""

import pickle

import cv2
import numpy as np
import pytest

from metro_ray.data.raw import open_raw
from metro_ray.errors import DataError


def test_rows(folders, truth, tmp_path):
    dataset = open_raw("up3d", folders.up3d(tmp_path), split="trainval")
    assert len(dataset) == 2
    for row in range(2):
        stored = dataset.row(row)
        label = stored.label
        assert stored.key == f"{row:05d}_image.png"
        fit = pickle.loads((tmp_path / f"{row:05d}_body.pkl").read_bytes())
        np.testing.assert_array_equal(label["pose"], fit["pose"])
        np.testing.assert_array_equal(label["betas"], fit["betas"])
        # The render's dark pixels are columns 30 to 59 and rows 20 to 89 + row; ends count as + 1.
        assert label["center"] == [45.0, (20 + 90 + row) / 2]
        assert label["scale"] == pytest.approx(1.2 * (70 + row) / 200)
        joints = np.load(tmp_path / f"{row:05d}_joints.npy")
        assert label["2d_joints"].shape == (1, 24, 3)
        np.testing.assert_array_equal(label["2d_joints"][0, :14], joints.T)
        assert not label["2d_joints"][0, 14:].any()
        assert label["2d_joints"][0, 18, 2] == 0  # Head, which training uses
        points = truth.joints24(fit["pose"], fit["betas"])
        assert label["3d_joints"].shape == (1, 24, 4)
        np.testing.assert_allclose(label["3d_joints"][0, :, :3], points, atol=1e-6)
        assert (label["3d_joints"][..., 3] == 1).all()
        assert [label[f"has_{kind}"] for kind in ("2d_joints", "3d_joints", "smpl")] == [1, 1, 1]
        assert "gender" not in label
        assert stored.image_bytes == (tmp_path / stored.key).read_bytes()


def test_the_box_takes_every_channel_into_account(folders, tmp_path):
    """A pixel belongs to the body when any channel is below 255."""
    folders.up3d(tmp_path)
    path = tmp_path / "00000_render_light.png"
    render = cv2.imread(str(path))
    render[5, 100, 2] = 254
    cv2.imwrite(str(path), render)
    label = open_raw("up3d", tmp_path, split="val").row(0).label
    assert label["center"] == [(30 + 101) / 2, (5 + 90) / 2]
    assert label["scale"] == pytest.approx(1.2 * 85 / 200)


BROKEN = {
    "is white all over": lambda folder: cv2.imwrite(
        str(folder / "00001_render_light.png"), np.full((9, 9, 3), 255, np.uint8)
    ),
    "joints.npy should be numbers of shape": lambda folder: np.save(
        folder / "00001_joints.npy", np.zeros((3, 13))
    ),
    "joints.npy does not exist": lambda folder: (folder / "00001_joints.npy").unlink(),
    "lacks the field 'pose'": lambda folder: (folder / "00001_body.pkl").write_bytes(
        pickle.dumps({"betas": np.zeros(10)}, protocol=2)
    ),
    "is refused: it names": lambda folder: (folder / "00001_body.pkl").write_bytes(
        pickle.dumps({"pose": print}, protocol=2)
    ),
    "NaN or infinite": lambda folder: (folder / "00001_body.pkl").write_bytes(
        pickle.dumps({"pose": np.full(72, np.nan), "betas": np.zeros(10)}, protocol=2)
    ),
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_row_is_named_and_the_others_stay(folders, tmp_path, words):
    folders.up3d(tmp_path)
    BROKEN[words](tmp_path)
    dataset = open_raw("up3d", tmp_path, split="train")
    with pytest.raises(DataError, match=rf"row 1 \(00001_image.png\).*{words}"):
        dataset.row(1)
    assert dataset.row(0).label["has_smpl"] == 1


def test_a_line_of_another_form_is_named(folders, tmp_path):
    folders.up3d(tmp_path)
    (tmp_path / "test.txt").write_text("/00000_image.png\n\n/00001.png\n")
    with pytest.raises(DataError, match=r"test.txt: line 3: expected /<number>_image.png"):
        open_raw("up3d", tmp_path, split="test")
