"""`metro-ray score freihand` from files to figures."""

import json

import numpy as np
import pytest

from metro_ray.cli.main import main
from metro_ray.evaluation.freihand import Hands
from metro_ray.evaluation.freihand_files import write_prediction


@pytest.fixture
def hands():
    rng = np.random.default_rng(0)
    return Hands(rng.uniform(-0.1, 0.1, (9, 21, 3)), rng.uniform(-0.1, 0.1, (9, 40, 3)))


@pytest.fixture
def argv(hands, tmp_path):
    """A command line for a prediction moved by 6 mm."""
    truth = tmp_path / "freihand"
    truth.mkdir()
    (truth / "evaluation_xyz.json").write_text(json.dumps(hands.joints.tolist()))
    (truth / "evaluation_verts.json").write_text(json.dumps(hands.vertices.tolist()))
    path = tmp_path / "pred.zip"
    write_prediction(path, Hands(*(points + np.array([0.0, 0.006, 0.0]) for points in hands)))
    return ["score", "freihand", "--gt", str(truth), "--pred", str(path)]


def test_text_and_report(argv, tmp_path, capsys):
    assert main([*argv, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.split("\n")
    assert told[:5] == [
        "Evaluation 3D KP results:",
        "auc=0.884, mean_kp3d_avg=0.60 cm",
        "Evaluation 3D KP ALIGNED results:",
        "auc=0.995, mean_kp3d_avg=0.00 cm",
        "",
    ]
    assert told[5] == "Evaluation 3D MESH results:"
    assert told[9:11] == ["", "F-scores"]
    assert told[12] == "F@15.0mm = 1.000 \tF_aligned@15.0mm = 1.000"
    assert told[-2] == "Evaluation complete."
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"scores.txt", "scores.json", "pck_data.json", "pck.png"}


def test_json_is_all_of_stdout_and_progress_is_elsewhere(argv, capsys):
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert len(figures) == 12
    assert figures["xyz_mean3d"] == pytest.approx(0.6)
    assert figures["mesh_auc3d"] == pytest.approx(87.5 / 99)  # 6 mm is below threshold 12 of 0..99
    assert figures["f_al_score_15"] == 1.0
    assert "samples: 9/9" in captured.err


def test_another_mesh_is_scored_with_a_warning(argv, hands, tmp_path, capsys):
    write_prediction(tmp_path / "pred.zip", Hands(hands.joints, hands.vertices[:, :30]))
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["mesh_mean3d"] == -100
    assert "warning: 30 predicted vertices, 40 true ones" in captured.err


def test_errors_are_messages(argv, hands, tmp_path, capsys):
    write_prediction(tmp_path / "pred.zip", Hands(hands.joints[::-1], hands.vertices[::-1]))
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: the predictions are not in the data set's order" in captured.err


def nan(hands):
    hands.vertices[3, 5, 1] = np.nan
    return [hands.joints.tolist(), hands.vertices.tolist()]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (lambda h: [h.joints[:-1].tolist(), h.vertices[:-1].tolist()], "has 8 samples"),
        (lambda h: [h.joints.tolist(), h.vertices[:-1].tolist()], "joints of 9 samples"),
        (lambda h: [h.joints[::-1].tolist(), h.vertices[::-1].tolist()], "data set's order"),
        (nan, "part 1 (vertices): sample 3, point 5, y is nan"),
        (lambda h: [h.vertices.tolist(), h.joints.tolist()], "swap the two parts"),
        (lambda h: {"joints": h.joints.tolist()}, "holds an object; expected [joints, vertices]"),
    ],
    ids=["length", "lengths-differ", "order", "nan", "swapped", "layout"],
)
def test_a_wrong_prediction_file_is_named_and_nothing_is_scored(
    layout, message, argv, hands, tmp_path, capsys
):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(layout(hands)))
    with pytest.raises(SystemExit) as caught:
        main([*argv[:-1], str(path), "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert not (tmp_path / "out").exists()
