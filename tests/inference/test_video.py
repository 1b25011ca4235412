"""Videos through a stand-in network: order, batches, tracks, resuming, refusals."""

import json

import numpy as np
import pytest
import torch
from side_sensitive import SideSensitive
from toys import TOY_BODY, ToyBody

from metro_ray.errors import DataError
from metro_ray.inference import Predictor, video
from metro_ray.inference.inputs import Boxes, Source
from metro_ray.inference.people import OutputSettings, Request
from metro_ray.inference.smoothing import OneEuroSettings
from metro_ray.inference.video import VideoSettings, VideoTally, predict_video
from metro_ray.inference.video_files import VideoReader, VideoWriter

MARK = {"path": "x", "weights_sha256": "y"}
SIZE = (96, 64)


def _frame(number):
    """A grey that counts, with a pattern so that left and right differ."""
    image = np.full((*SIZE[::-1], 3), 10 + 8 * number, np.uint8)
    image[:, : SIZE[0] // 3] = 200 - 6 * number
    return image


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, "mp4v", 10.0, *SIZE) as writer:
        for number in range(20):
            writer.write(_frame(number))
    return Source(path, "clip.mp4")


@pytest.fixture
def request_(tmp_path):
    torch.manual_seed(0)
    predictor = Predictor(SideSensitive(), ToyBody(TOY_BODY), batch_size=3)
    return Request(predictor=predictor, boxes=Boxes(), settings=OutputSettings(formats=()))


def _run(source, request, out, tally=None, **settings):
    options = VideoSettings(**settings)
    return list(predict_video(source, request, out, MARK, options, tally or VideoTally()))


def _lines(out):
    return [json.loads(line) for line in (out / "clip_mp4" / "people.jsonl").open()]


def test_frames_come_in_order_with_their_times(clip):
    reader = VideoReader(clip.path)
    frames = list(reader.frames(every=6, max_frames=None))
    assert [frame.number for frame in frames] == [0, 6, 12, 18]
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 0.6, 1.2, 1.8])
    for frame in frames:
        assert abs(float(frame.image[:, 50:].mean()) - (10 + 8 * frame.number)) < 4
    assert reader.num_expected(6, None) == 4
    assert reader.num_expected(6, 3) == 3


def test_every_frame_is_predicted_as_if_it_were_alone(clip, request_, tmp_path):
    tally = VideoTally()
    assert sum(_run(clip, request_, tmp_path / "out", tally)) == 20
    lines = _lines(tmp_path / "out")
    assert [line["frame"] for line in lines] == list(range(20))
    assert all(person["track"] == 0 for line in lines for person in line["people"])
    for frame, line in zip(VideoReader(clip.path).frames(1, None), lines, strict=True):
        (alone,) = request_.predictor.predict([frame.image])
        np.testing.assert_allclose(line["people"][0]["joints_m"], alone.joints, atol=2e-6)
    record = json.loads((tmp_path / "out" / "clip_mp4" / "video.json").read_text())
    assert (record["num_frames"], record["num_people"], record["fps"]) == (20, 20, 10.0)


def test_the_overlay_has_the_frames_that_were_predicted(clip, request_, tmp_path):
    _run(clip, request_, tmp_path / "out", every=4)
    reader = VideoReader(tmp_path / "out" / "clip_mp4" / "overlay.mp4")
    frames = list(reader.frames(1, None))
    assert len(frames) == 5
    assert reader.fps == pytest.approx(2.5)
    assert frames[0].image.shape == (*SIZE[::-1], 3)


def test_boxes_by_frame_and_tracks_through_them(clip, request_, tmp_path):
    file = tmp_path / "boxes.json"
    two = [[5, 5, 30, 30], [55, 20, 30, 30]]
    file.write_text(json.dumps({"clip.mp4": {"0": two, "1": two[::-1], "3": [two[1]]}}))
    boxes = Boxes.read(file)
    request = Request(
        predictor=request_.predictor, boxes=boxes, settings=OutputSettings(formats=("npz",))
    )
    _run(clip, request, tmp_path / "out", max_frames=5)
    tracks = [[person["track"] for person in line["people"]] for line in _lines(tmp_path / "out")]
    assert tracks == [[0, 1], [1, 0], [], [1], []]
    meshes = sorted(path.name for path in (tmp_path / "out" / "clip_mp4" / "meshes").iterdir())
    assert meshes == [
        "000000_person0.npz",
        "000000_person1.npz",
        "000001_person0.npz",
        "000001_person1.npz",
        "000003_person0.npz",
    ]


def test_smoothing_steadies_what_is_written(clip, request_, tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "boxes.json"
    shaken = {str(n): [[*(20 + rng.normal(0, 3, 2)), 40, 40]] for n in range(20)}
    file.write_text(json.dumps({"clip.mp4": shaken}))
    request = Request(
        predictor=request_.predictor,
        boxes=Boxes.read(file),
        settings=OutputSettings(formats=(), overlay=False),
    )
    trembling = []
    for name, smoothing in (("raw", None), ("smooth", OneEuroSettings(beta=0.2))):
        _run(clip, request, tmp_path / name, smoothing=smoothing)
        places = [line["people"][0]["joints_px"] for line in _lines(tmp_path / name)]
        trembling.append(np.std(np.diff(np.array(places), axis=0)))
    assert trembling[1] < 0.6 * trembling[0]


def test_no_more_than_two_batches_are_in_memory(clip, request_, tmp_path, monkeypatch):
    """Frames that were read and not yet written, at any time."""
    alive, most = 0, 0
    frames = VideoReader.frames

    def counted(self, every, max_frames):
        nonlocal alive, most
        for frame in frames(self, every, max_frames):
            alive += 1
            most = max(most, alive)
            yield frame

    monkeypatch.setattr(VideoReader, "frames", counted)
    monkeypatch.setattr(video, "_FRAMES_AT_ONCE", 2)
    options = VideoSettings()
    for size in predict_video(clip, request_, tmp_path / "out", MARK, options, VideoTally()):
        alive -= size
    assert most <= 4


def test_a_finished_video_is_kept_and_other_settings_are_refused(clip, request_, tmp_path):
    _run(clip, request_, tmp_path / "out", max_frames=2)
    tally = VideoTally()
    assert _run(clip, request_, tmp_path / "out", tally, max_frames=2) == []
    assert tally.kept
    with pytest.raises(DataError, match="other settings \\(video\\)"):
        _run(clip, request_, tmp_path / "out", max_frames=3)


def test_a_video_that_was_stopped_is_predicted_again(clip, request_, tmp_path):
    steps = predict_video(clip, request_, tmp_path / "out", MARK, VideoSettings(), VideoTally())
    next(steps)
    steps.close()
    left = {path.name for path in (tmp_path / "out" / "clip_mp4").iterdir()}
    assert not left & {"overlay.mp4", "video.json", "people.jsonl"}
    assert sum(_run(clip, request_, tmp_path / "out")) == 20


def test_what_is_no_video_is_named(request_, tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4 cannot be opened as a video"):
        _run(Source(path, "text.mp4"), request_, tmp_path / "out")


def test_a_video_without_frames_is_named(clip, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(VideoReader, "frames", lambda *_: iter(()))
    with pytest.raises(DataError, match="has no frames that can be read"):
        _run(clip, request_, tmp_path / "out")


def test_a_box_beside_its_frame_is_named(clip, request_, tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps({"clip.mp4": {"3": [[500, 500, 10, 10]]}}))
    request = Request(predictor=request_.predictor, boxes=Boxes.read(file))
    with pytest.raises(DataError, match=r"clip\.mp4, frame 3, box 0: its square of"):
        _run(clip, request, tmp_path / "out")


def test_a_codec_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot write 96 x 64 video with the codec zzzz"):
        VideoWriter(tmp_path / "new.mp4", "zzzz", 10.0, *SIZE)
