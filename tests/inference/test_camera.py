import json

import numpy as np
import pytest

from metro_ray.errors import DataError
from metro_ray.inference.camera import CameraSource, read_intrinsics, translation

K = [[500, 0, 111.5], [0, 510, 112], [0, 0, 1]]


def _write(tmp_path, content):
    path = tmp_path / "camera.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("content", [{"K": K}, {"fx": 500, "fy": 510, "cx": 111.5, "cy": 112}])
def test_intrinsics_are_read(content, tmp_path):
    assert read_intrinsics(_write(tmp_path, content)) == ((500, 510), (111.5, 112))
    source = CameraSource.of(None, _write(tmp_path, content))
    assert source.for_picture(10, 20).focal_px == (500, 510)
    assert source.note == "given: camera.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ({"fx": 500, "fy": 500}, "expected"),
        ({"K": [[500, 1, 0], [0, 500, 0], [0, 0, 1]]}, "expected"),
        ({"K": [[500, 0], [0, 500]]}, "expected"),
        ([500, 500], "expected"),
        ({"fx": 0, "fy": 500, "cx": 1, "cy": 1}, "must be above 0"),
    ],
)
def test_what_is_no_camera_is_refused(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_intrinsics(_write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json does not exist"):
        read_intrinsics(tmp_path / "gone.json")


def test_a_focal_length_is_taken_with_the_middle_of_each_picture():
    source = CameraSource.of(700.0, None)
    assert source.for_picture(101, 51) == ((700.0, 700.0), (50.0, 25.0))
    assert "assumed: principal point" in source.note
    with pytest.raises(DataError, match="above 0 pixels"):
        CameraSource.of(-1.0, None)


def test_nothing_given_is_said_to_be_assumed():
    source = CameraSource.of(None, None)
    assert source.for_picture(300, 400).focal_px == (500.0, 500.0)
    assert source.note.startswith("assumed")


def test_a_ball_of_known_size_is_where_it_should_be(ball):
    """30 pixels of radius for 0.3 m are 100 px a metre: focal length 500 sees that at 5 m."""
    root = translation(ball, CameraSource.of(500.0, None).for_picture(100, 100))
    np.testing.assert_allclose(root, [0, 0, 5], atol=1e-6)


def test_a_camera_that_was_not_learned_gives_no_place(ball):
    upside_down = ball._replace(camera=np.float32([-1, 0, 0]))
    assert translation(upside_down, CameraSource().for_picture(9, 9)) is None
