"""FreiHAND files and scores: what is perfect, what is written, what is refused and how."""

import json
import sys
import zipfile

import numpy as np
import pytest

from metro_ray.bodies.mano import _J21_ORDER
from metro_ray.errors import ConfigError, DataError
from metro_ray.evaluation.freihand import Hands, measure_samples, summarise
from metro_ray.evaluation.freihand_files import read_prediction, read_truth, write_prediction
from metro_ray.evaluation.freihand_match import MANO_TO_FREIHAND, require_match
from metro_ray.evaluation.freihand_report import curves, write_report

NUM_SAMPLES, NUM_VERTICES = 12, 30


@pytest.fixture
def hands():
    rng = np.random.default_rng(0)
    root = rng.uniform(-0.1, 0.1, (NUM_SAMPLES, 1, 3)) + np.array([0, 0, 0.7])
    return Hands(
        root + rng.uniform(-0.09, 0.09, (NUM_SAMPLES, 21, 3)),
        root + rng.uniform(-0.09, 0.09, (NUM_SAMPLES, NUM_VERTICES, 3)),
    )


@pytest.fixture
def truth_folder(hands, tmp_path):
    (tmp_path / "evaluation_xyz.json").write_text(json.dumps(hands.joints.tolist()))
    (tmp_path / "evaluation_verts.json").write_text(json.dumps(hands.vertices.tolist()))
    return tmp_path


def score(truth, prediction):
    return summarise(measure_samples(truth, prediction))


def test_truth_as_prediction_scores_perfectly_through_files(hands, truth_folder, tmp_path):
    path = write_prediction(tmp_path / "deep" / "ckpt200-sc10_rot0-pred.zip", hands)
    figures = score(read_truth(truth_folder), read_prediction(path)).figures()
    for name, value in figures.items():
        if "mean3d" in name:
            assert value < 1e-6, name
        elif "_al_auc" in name:
            # 1e-8 on the norms: an aligned error is never 0, so one threshold of 100 is missed.
            assert value > 0.994, name
        else:
            assert value == pytest.approx(1.0), name


def test_aligned_scores_ignore_place_turn_size_and_mirror(hands):
    prediction = Hands(*(2.0 * points * [-1, 1, 1] + 0.3 for points in hands))
    figures = score(hands, prediction).figures()
    assert figures["xyz_auc3d"] == 0
    assert figures["xyz_al_mean3d"] < 1e-5
    assert figures["f_al_score_5"] == pytest.approx(1.0)


def test_scores_of_a_known_shift(hands):
    shifted = Hands(
        hands.joints + np.array([0.0, 0.0, 0.02]), hands.vertices + np.array([0.0, 0.03, 0.04])
    )
    scores = score(hands, shifted)
    assert scores.joints.mean_m == pytest.approx(0.02)
    assert scores.joints.auc == pytest.approx(0.6, abs=0.01)
    assert scores.vertices.mean_m == pytest.approx(0.05)
    assert scores.num_samples == NUM_SAMPLES


def test_one_sample_is_enough(hands):
    one = Hands(hands.joints[:1], hands.vertices[:1])
    require_match(one, one)
    assert score(one, one).joints.auc == 1.0


def test_float32_predictions_are_written_exactly_and_alike(hands, tmp_path):
    rounded = Hands(*(points.astype(np.float32) for points in hands))
    paths = [write_prediction(tmp_path / name, rounded) for name in ("a.zip", "b.zip")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        assert archive.namelist() == ["pred.json"]
        joints, vertices = json.loads(archive.read("pred.json"))
    assert np.array_equal(np.float32(joints), rounded.joints)
    assert np.array_equal(np.float32(vertices), rounded.vertices)
    again = read_prediction(paths[0])
    assert np.array_equal(again.joints, rounded.joints.astype(np.float64))


def test_writing_refuses_and_leaves_no_file(hands, tmp_path):
    broken = hands.vertices.copy()
    broken[3, 4, 1] = np.nan
    with pytest.raises(DataError, match="vertices to write: sample 3, point 4, y is nan"):
        write_prediction(tmp_path / "p.zip", Hands(hands.joints, broken))
    with pytest.raises(DataError, match=r"joints to write have shape \(12, 20, 3\)"):
        write_prediction(tmp_path / "p.zip", Hands(hands.joints[:, :20], hands.vertices))
    with pytest.raises(DataError, match="joints to write are of 12 samples, vertices of 5"):
        write_prediction(tmp_path / "p.zip", Hands(hands.joints, hands.vertices[:5]))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(hands, tmp_path, monkeypatch):
    path = write_prediction(tmp_path / "p.zip", hands)
    before = path.read_bytes()

    def stop(stream, joints, vertices):
        stream.write(b"[[")
        raise KeyboardInterrupt

    monkeypatch.setattr("metro_ray.evaluation.freihand_files._write_layout", stop)
    with pytest.raises(KeyboardInterrupt):
        write_prediction(path, hands)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.zip")) == [path]


def _nan(joints, vertices):
    joints[2][7][0] = float("nan")
    return [joints, vertices]


def _text(joints, vertices):
    joints[4][0][1] = "0.1"
    return [joints, vertices]


def _gap(joints, vertices):
    joints[5] = None
    return [joints, vertices]


def _short(joints, vertices):
    joints[6] = joints[6][:20]
    return [joints, vertices]


def _ragged(joints, vertices):
    vertices[1][3] = vertices[1][3][:2]
    return [joints, vertices]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (_nan, r"part 0 \(joints\): sample 2, point 7, x is nan; 1 of 12"),
        (_text, "sample 4 holds something that is not a number"),
        (_gap, r"sample 5 has shape \(\); expected 21 points"),
        (_short, r"sample 6 has shape \(20, 3\); expected 21 points of 3 numbers"),
        (_ragged, r"part 1 \(vertices\): sample 1 has points of unequal length; expected 30"),
        (lambda j, v: [[s[:20] for s in j], v], r"sample 0 has shape \(20, 3\); expected 21"),
        (lambda j, v: [v, j], r"is \[vertices, joints\]; swap the two parts"),
        (lambda j, v: [j, v[:-1]], "joints of 12 samples and vertices of 11"),
        (lambda j, v: list(zip(j, v)), r"a list of 12; expected \[joints, vertices\]"),
        (lambda j, v: {"joints": j, "verts": v}, r"holds an object; expected \[joints, vertices\]"),
        (lambda j, v: [j, []], r"part 1 \(vertices\) holds an empty list"),
        (lambda j, v: [j, 3], r"part 1 \(vertices\) holds a int; expected a list of samples"),
    ],
)
def test_what_is_wrong_in_a_prediction_is_named(layout, message, hands, tmp_path):
    path = tmp_path / "pred.json"
    path.write_text(json.dumps(layout(hands.joints.tolist(), hands.vertices.tolist())))
    with pytest.raises(DataError, match=message):
        read_prediction(path)


def test_files_that_cannot_be_read_are_named(truth_folder, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.zip does not exist"):
        read_prediction(tmp_path / "nothing.zip")
    (tmp_path / "p.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"p\.zip is not a readable zip file"):
        read_prediction(tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "q.zip", "w") as archive:
        archive.writestr("exp/pred.json", "[]")
    with pytest.raises(DataError, match=r"no pred\.json at its root; it holds exp/pred\.json"):
        read_prediction(tmp_path / "q.zip")
    (tmp_path / "cut.json").write_text("[[[[0.1, 0.")
    with pytest.raises(DataError, match=r"cut\.json is not JSON, or was cut off"):
        read_prediction(tmp_path / "cut.json")
    (truth_folder / "evaluation_verts.json").write_text("[[[0, 0, 0]]]")
    with pytest.raises(DataError, match=r"12 samples and evaluation_verts\.json 1"):
        read_truth(truth_folder)
    (truth_folder / "evaluation_verts.json").unlink()
    with pytest.raises(DataError, match=r"evaluation_verts\.json does not exist"):
        read_truth(truth_folder)


def test_predictions_of_other_samples_are_refused(hands):
    fewer = Hands(hands.joints[:-1], hands.vertices[:-1])
    with pytest.raises(DataError, match="prediction has 11 samples, the ground truth 12"):
        require_match(hands, fewer)


@pytest.mark.parametrize("order", ["reversed", "shifted", "shuffled"])
def test_samples_in_another_order_are_refused(order, hands):
    rng = np.random.default_rng(1)
    rows = {
        "reversed": np.arange(NUM_SAMPLES)[::-1],
        "shifted": np.roll(np.arange(NUM_SAMPLES), 1),
        "shuffled": rng.permutation(NUM_SAMPLES),
    }[order]
    noisy = hands.joints + rng.uniform(-0.01, 0.01, hands.joints.shape)
    with pytest.raises(DataError, match="not in the data set's order") as caught:
        require_match(hands, Hands(noisy[rows] - noisy[rows][:, :1], hands.vertices[rows]))
    assert f"prediction 0 ground truth {rows[0]}" in str(caught.value)


def test_joints_in_manos_order_are_refused(hands):
    assert MANO_TO_FREIHAND == _J21_ORDER
    mano = hands.joints[:, np.argsort(MANO_TO_FREIHAND)]
    with pytest.raises(DataError, match="in MANO's order"):
        require_match(hands, Hands(mano, hands.vertices))


def test_bad_predictions_in_the_right_order_are_scored(hands):
    """Noise, one hand for all, all points in one place: poor, but nobody's other order."""
    rng = np.random.default_rng(2)
    for joints in (
        rng.uniform(-0.1, 0.1, hands.joints.shape),
        np.broadcast_to(hands.joints[:1], hands.joints.shape),
        np.zeros(hands.joints.shape),
    ):
        require_match(hands, Hands(joints, hands.vertices))


def test_report_files(hands, tmp_path):
    scores = score(hands, Hands(hands.joints + 0.01, hands.vertices[:, :20]))
    written = write_report(scores, tmp_path / "new" / "report")
    assert [path.name for path in written] == [
        "scores.txt",
        "scores.json",
        "pck_data.json",
        "pck.png",
    ]
    assert json.loads(written[1].read_text()) == scores.figures()
    assert "mesh_mean3d: -100.000000\n" in written[0].read_text()
    data = json.loads(written[2].read_text())
    assert data == curves(scores)
    assert data["mesh"] == [[0.0, 100.0], [-1.0, -1.0]]
    assert written[3].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_figures_are_written(hands, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="pip install"):
        write_report(score(hands, hands), tmp_path)
    assert (tmp_path / "scores.txt").exists()
    assert (tmp_path / "pck_data.json").exists()
