import cv2
import numpy as np
import pytest
import torch
from torch import nn
from toys import ToyBody

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Box, crop_coordinates
from metro_ray.inference import Predictor, read_image
from metro_ray.models import MeshPrediction


class MeanColour(nn.Module):
    """A mesh that depends on the picture, so that mixed-up results show."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.template = nn.Parameter(torch.rand(40, 3, generator=draw))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        shift = self.dropout(images.mean(dim=(2, 3)))
        vertices = self.template + shift[:, None, :]
        camera = torch.tensor([0.8, 0.1, -0.2]).expand(len(images), 3)
        return MeshPrediction(camera, vertices[:, :14], (vertices,))


@pytest.fixture
def predictor():
    return Predictor(MeanColour(), ToyBody(), batch_size=2)


def _pictures(count):
    rng = np.random.default_rng(1)
    sizes = rng.integers(60, 200, (count, 2))
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in sizes]


def test_meshes_and_joints_are_relative_to_the_root(predictor):
    (result,) = predictor.predict(_pictures(1))
    assert result.vertices.shape == (40, 3)
    assert result.joints.shape == (14, 3)
    np.testing.assert_allclose(result.vertices[0], 0.0, atol=1e-6)
    np.testing.assert_array_equal(result.joints, result.vertices[predictor.body.rows])


def test_pixels_agree_with_the_camera_and_the_crop(predictor):
    box = Box((70.0, 40.0), 0.45)
    (result,) = predictor.predict([_pictures(1)[0]], [box])
    scale, shift = result.camera[0], result.camera[1:]
    in_crop = scale * (result.vertices[:, :2] + shift)
    shown = crop_coordinates(result.vertices_px[:, :2].astype(np.float64), result.window, 224)
    np.testing.assert_allclose(shown, in_crop, atol=1e-4)
    depth_range = np.ptp(result.vertices_px[:, 2]) / np.ptp(result.vertices[:, 2])
    assert depth_range == pytest.approx(scale * result.window.width / 2, rel=1e-4)


def test_the_camera_that_was_predicted_shows_the_mesh_that_was_predicted(predictor):
    """Subtracting the root moves the mesh and the camera's translation, not the picture."""
    picture = _pictures(1)[0]
    (result,) = predictor.predict([picture])
    with torch.no_grad():
        predictor.model.eval()
        from metro_ray.data.normalize import normalize_images
        from metro_ray.inference.cutouts import middle

        crop, _ = middle(picture, 224)
        prediction = predictor.model(
            normalize_images(torch.from_numpy(crop.transpose(2, 0, 1)[None].copy()))
        )
    raw = 0.8 * (prediction.vertices[-1][0, :, :2] + torch.tensor([0.1, -0.2]))
    ours = result.camera[0] * (result.vertices[:, :2] + result.camera[1:])
    np.testing.assert_allclose(ours, raw.numpy(), atol=1e-5)


def test_results_do_not_depend_on_batching(predictor):
    pictures = _pictures(5)
    together = predictor.predict(pictures)
    for picture, result in zip(pictures, together, strict=True):
        (alone,) = predictor.predict([picture])
        np.testing.assert_allclose(alone.vertices_px, result.vertices_px, atol=1e-4)


def test_without_a_box_the_middle_of_the_picture_is_seen(predictor):
    (result,) = predictor.predict([np.zeros((60, 120, 3), np.uint8)])
    assert result.window == (30, 0, 90, 60)


def test_training_goes_on_in_training_mode(predictor):
    predictor.model.train()
    pictures = _pictures(2)
    first, second = predictor.predict(pictures), predictor.predict(pictures)
    np.testing.assert_array_equal(first[0].vertices, second[0].vertices)
    assert predictor.model.training


def test_no_pictures_no_results(predictor):
    assert predictor.predict([]) == []


def test_bf16_gives_float32_results(predictor):
    half = Predictor(predictor.model, predictor.body, precision="bf16")
    assert half.predict(_pictures(1))[0].vertices.dtype == np.float32


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((20, 20, 3), np.float32),
        np.zeros((0, 20, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_what_is_not_a_picture_is_refused_with_its_number(predictor, bad):
    with pytest.raises(DataError, match="picture 1: expected RGB, uint8"):
        predictor.predict([_pictures(1)[0], bad])


def test_a_degenerate_box_is_refused_with_its_picture(predictor):
    with pytest.raises(DataError, match="picture 0: box scale must be > 0"):
        predictor.predict(_pictures(1), [Box((10.0, 10.0), 0.0)])


def test_one_box_for_each_picture_is_asked_for(predictor):
    with pytest.raises(DataError, match="got 1 boxes for 2 pictures"):
        predictor.predict(_pictures(2), [None])


def test_a_box_beside_its_picture_sees_black_as_in_metros_data(predictor):
    beside, black = predictor.predict(
        [_pictures(1)[0], np.zeros((50, 50, 3), np.uint8)], [Box((900.0, 10.0), 0.5), None]
    )
    np.testing.assert_array_equal(beside.vertices, black.vertices)


def test_hands_of_a_network_of_bodies_are_refused(predictor):
    with pytest.raises(DataError, match="picture 0: a left hand is asked for, but this network"):
        predictor.predict(_pictures(1), hands=["left"])


def test_picture_files_are_read_as_rgb(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # BGR, as OpenCV writes
    cv2.imwrite(str(tmp_path / "red.png"), red)
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]


def test_files_that_are_no_pictures_are_named(tmp_path):
    (tmp_path / "notes.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.jpg"):
        read_image(tmp_path / "notes.jpg")
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "missing.jpg")
