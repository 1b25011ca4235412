import numpy as np
import pytest

from metro_ray.errors import DataError
from metro_ray.geometry.boxes import Box
from metro_ray.inference.cutouts import cut_out, middle, require_overlap


def _smooth(height, width):
    """A picture of slow waves, in which every place can be told."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / 17.0), np.cos(y / 23.0), np.sin((x + y) / 31.0)]
    return np.rint(127.5 + 127.5 * np.stack(planes, axis=2)).astype(np.uint8)


@pytest.mark.parametrize("size", [(224, 224), (480, 640), (901, 600), (100, 333), (1080, 1920)])
def test_without_a_box_the_crop_is_that_of_metros_demo(size):
    """Shorter side resized to 224 with Pillow's antialiasing, then the middle."""
    image_module = pytest.importorskip("PIL.Image")
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    shorter = min(size)
    columns, lines = (224 if n == shorter else int(224 * n / shorter) for n in (width, height))
    resized = image_module.fromarray(noise).resize(
        (columns, lines), image_module.Resampling.BILINEAR
    )
    top, left = round((lines - 224) / 2), round((columns - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, left : left + 224].astype(int)
    assert np.abs(middle(noise, 224)[0] - expected).max() <= 1


def test_the_window_says_where_the_middle_is():
    picture = _smooth(480, 640)
    crop, window = middle(picture, 224)
    assert window == (79, 0, 561, 480)  # 640 x 480 becomes 298 x 224, columns 37 to 261 are taken
    x = np.rint(79 + (np.arange(224) + 0.5) * 482 / 224 - 0.5).astype(int)
    y = np.rint((np.arange(224) + 0.5) * 480 / 224 - 0.5).astype(int)
    assert np.abs(crop.astype(int) - picture[np.ix_(y, x)]).mean() < 3


def test_a_crop_is_written_nowhere_into_the_picture():
    picture = _smooth(224, 224)
    before = picture.copy()
    cutout = cut_out(picture, None, 224)
    cutout.pixels[:] = 0
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("size", [(1, 1), (50, 1), (1, 50)])
def test_a_mirrored_picture_of_one_column_is_cut_out(size):
    picture = np.full((*size, 3), 99, np.uint8)
    assert (cut_out(picture, None, 224, mirror=True).pixels == 99).all()


@pytest.mark.parametrize("center", [(-60.0, 50.0), (50.0, 160.0), (170.0, 50.0), (50.0, -60.0)])
@pytest.mark.parametrize("mirror", [False, True])
def test_crops_that_show_nothing_can_be_told(center, mirror):
    picture = np.full((90, 100, 3), 99, np.uint8)
    outside = cut_out(picture, Box(center, 0.5), 224, mirror=mirror)
    assert not outside.pixels.any()
    with pytest.raises(DataError, match="lies outside the picture of 100 x 90 px"):
        require_overlap(outside.window, 100, 90)
    partly = cut_out(picture, Box(center, 0.8), 224, mirror=mirror)
    assert partly.pixels.any()
    require_overlap(partly.window, 100, 90)
