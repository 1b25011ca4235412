import base64
import json
import math
import re

import cv2
import numpy as np
import pytest

from metro_ray.inference.gallery import GalleryItem, write_gallery

METRICS = {"val/mpjpe_mm": 75.0, "baseline/mpjpe_mm": 100.0, "val/mpve_mm": math.nan}


@pytest.fixture
def items(ball, photo):
    truth = ball.vertices * np.float32(1.5)
    return [
        GalleryItem(title="a/one.jpg", image=photo, result=ball, errors_mm={"MPJPE": 81.26}),
        GalleryItem(
            title="../<two>&",
            image=photo,
            result=ball._replace(faces=ball.faces.copy()),
            errors_mm={"MPVE": math.nan},
            truth=truth,
        ),
    ]


def _data(html):
    scripts = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', html)
    return {name: json.loads(text) for name, text in scripts}


def test_the_page_needs_nothing_but_itself(items, tmp_path):
    html = write_gallery(tmp_path, items, title="Run").read_text()
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sources
    for source in sources:
        assert source.startswith("data:image/") or (tmp_path / source).is_file(), source
    assert "http" not in html


def test_every_item_has_four_pictures_two_mesh_files_and_a_mesh_to_turn(items, tmp_path):
    html = write_gallery(tmp_path, items, title="Run").read_text()
    assert html.count("<article>") == html.count("<canvas") == 2
    assert html.count("data:image/jpeg") == 8
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 8
    assert all(cv2.imread(str(path)).shape == (384, 384, 3) for path in pictures)
    assert len(list((tmp_path / "meshes").iterdir())) == 4


def test_the_inlined_meshes_are_those_of_the_results(items, tmp_path):
    data = _data(write_gallery(tmp_path, items, title="Run").read_text())

    def array(name, key, dtype):
        return np.frombuffer(base64.b64decode(data[name][key]), dtype).reshape(-1, 3)

    ball = items[0].result
    np.testing.assert_array_equal(array("m0-mesh", "vertices", "<f4"), ball.vertices)
    np.testing.assert_array_equal(array("m1-truth", "vertices", "<f4"), items[1].truth)
    np.testing.assert_array_equal(array(data["m1-mesh"]["faces"], "faces", "<u4"), ball.faces)
    assert [name for name in data if name.startswith("faces")] == ["faces0"]
    assert "m0-truth" not in data


def test_titles_are_text_and_stay_inside_the_folder(items, tmp_path):
    folder = tmp_path / "run"
    html = write_gallery(folder, items, title="<b>Run</b>", notes=["a < b"]).read_text()
    assert "&lt;b&gt;Run" in html
    assert "a &lt; b" in html
    assert "<two>" not in html
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_errors_without_a_label_are_left_out(items, tmp_path):
    html = write_gallery(tmp_path, items, title="Run").read_text()
    assert "81.3 mm" in html
    assert "nan" not in html.split("<script")[0]


def test_metrics_stand_beside_the_mean_mesh(items, tmp_path):
    html = write_gallery(tmp_path, items, title="Run", metrics=METRICS).read_text()
    row = re.search(r"<tr><th>MPJPE.*?</tr>", html).group()
    assert re.findall(r"<td>(.*?)</td>", row) == ["75.0 mm", "100.0 mm", "25.0 %"]
    row = re.search(r"<tr><th>MPVE.*?</tr>", html).group()
    assert re.findall(r"<td>(.*?)</td>", row) == ["&ndash;"] * 3


def test_a_gallery_can_be_written_again(items, tmp_path):
    write_gallery(tmp_path, items, title="first")
    html = write_gallery(tmp_path, items[:1], title="second").read_text()
    assert "second" in html
    assert html.count("<article>") == 1
    assert not list(tmp_path.glob("*.part"))
