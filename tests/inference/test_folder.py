"""Folders through a stand-in network: lots, order, what fails."""

import json

import cv2
import numpy as np
import pytest
import torch
from side_sensitive import SideSensitive
from toys import TOY_BODY, ToyBody

from metro_ray.errors import DataError
from metro_ray.inference import Predictor, folder
from metro_ray.inference.inputs import Boxes, Source
from metro_ray.inference.people import OutputSettings, Request

MARK = {"path": "x", "weights_sha256": "y"}


def _frame(number):
    image = np.full((64, 96, 3), 10 + 8 * number, np.uint8)
    image[:, :32] = 200 - 6 * number
    return image


@pytest.fixture
def request_():
    predictor = Predictor(SideSensitive(), ToyBody(TOY_BODY), batch_size=3)
    return Request(predictor=predictor, boxes=Boxes(), settings=OutputSettings(formats=()))


def test_pictures_one_by_one_and_in_lots_give_the_same(request_, tmp_path, monkeypatch):
    sources = []
    for number in range(7):
        path = tmp_path / f"p{number}.png"
        cv2.imwrite(str(path), _frame(number))
        sources.append(Source(path, path.name))
    records = []
    for lot in (1, 3):
        monkeypatch.setattr(folder, "_PICTURES_AT_ONCE", lot)
        out, tally, shown = tmp_path / f"out{lot}", folder.Tally(), []
        steps = folder.predict_pictures(sources, request_, out, MARK, tally, shown.append)
        assert sum(steps) == 7
        assert [picture.source.name for picture in shown] == [s.name for s in sources]
        assert folder.unfinished(sources, request_, out, MARK) == []
        records.append(
            [json.loads((out / s.folder_name / "people.json").read_text()) for s in sources]
        )
    for one, other in zip(*records, strict=True):
        joints = [record["people"][0]["joints_px"] for record in (one, other)]
        np.testing.assert_allclose(joints[0], joints[1], atol=2e-3)


def test_a_prediction_that_is_not_finite_fails_its_picture(request_, tmp_path):
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), _frame(1))
    with torch.no_grad():
        request_.predictor.model.template.fill_(float("nan"))
    tally = folder.Tally()
    source = Source(path, path.name)
    assert list(
        folder.predict_pictures([source], request_, tmp_path / "out", MARK, tally, print)
    ) == [1]
    assert "p.png, box 0: the prediction is not finite" in tally.failures["p.png"]
    assert not (tmp_path / "out" / "p_png" / "people.json").exists()


def test_a_mesh_without_a_place_before_the_camera_is_refused_unless_the_root_will_do(
    request_, tmp_path
):
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), _frame(1))
    source = Source(path, path.name)

    class Behind(SideSensitive):
        def forward(self, images):
            return super().forward(images)._replace(camera=-torch.ones(len(images), 3))

    predictor = Predictor(Behind(), ToyBody(TOY_BODY))
    reasons = []
    for origin in ("camera", "root"):
        settings = OutputSettings(formats=("obj",), origin=origin)
        request = Request(predictor=predictor, boxes=Boxes(), settings=settings)
        tally = folder.Tally()
        list(folder.predict_pictures([source], request, tmp_path / origin, MARK, tally, print))
        reasons.append(tally.failures.get("p.png", ""))
    assert "--origin root writes the mesh" in reasons[0]
    assert reasons[1] == ""
    record = json.loads((tmp_path / "root" / "p_png" / "people.json").read_text())
    assert record["people"][0]["translation_m"] is None


def test_another_picture_of_the_same_size_in_bytes_is_not_taken_for_the_finished_one(
    request_, tmp_path
):
    path, out = tmp_path / "p.bmp", tmp_path / "out"
    cv2.imwrite(str(path), _frame(1))
    source, size = Source(path, path.name), path.stat().st_size
    list(folder.predict_pictures([source], request_, out, MARK, folder.Tally(), lambda _: None))
    assert folder.unfinished([source], request_, out, MARK) == []
    cv2.imwrite(str(path), _frame(2))
    assert path.stat().st_size == size
    with pytest.raises(DataError, match=r"other settings \(file_sha256\)"):
        folder.unfinished([source], request_, out, MARK)


def test_weights_tell_checkpoints_apart(tmp_path):
    (tmp_path / "meta.json").write_text("{}")
    marks = []
    for weights in (b"one", b"two", b"one"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        marks.append(folder.checkpoint_mark(tmp_path))
    assert marks[0] == marks[2] != marks[1]
