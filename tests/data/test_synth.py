"""run_synth: files, labels, determinism, resuming."""

import hashlib
import shutil

import cv2
import numpy as np
import pytest
import torch

from metro_ray.bodies import load_body
from metro_ray.bodies.spec import get_spec
from metro_ray.data import synth, synth_shard
from metro_ray.data.dataset import open_dataset
from metro_ray.data.labels import parse_label
from metro_ray.data.synth import run_synth
from metro_ray.data.synth_render import SceneRenderer
from metro_ray.data.synth_scene import sample_scene
from metro_ray.data.transform import SampleTransform, decode_image
from metro_ray.errors import DataError
from metro_ray.geometry import raycast

SIZE = 128
ROWS = 9


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    """Shards of four, so that nine images make three; read where shards are cut, by one process."""
    patch = pytest.MonkeyPatch()
    patch.setattr(synth, "SHARD_ROWS", 4)
    patch.setattr(synth_shard, "SHARD_ROWS", 4)
    yield
    patch.undo()


@pytest.fixture(scope="module", params=["body", "hand"])
def rendered(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    report = run_synth(request.param, ROWS, folder, 11, size=SIZE, processes=1)
    return report, load_body(f"anny_{request.param}")


def _rows(report, body):
    dataset = open_dataset(report.yaml_path, body.spec)
    return [dataset.row(i) for i in range(len(dataset))]


def _posed(row, body):
    label = parse_label(row.label, body.spec)
    with torch.no_grad():
        posed = body(
            torch.as_tensor(label.pose, dtype=torch.float32)[None],
            torch.as_tensor(label.betas, dtype=torch.float32)[None],
        )
    return label, posed


def _digests(folder):
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_report_and_the_files(rendered):
    report, _ = rendered
    assert (report.num_rows, report.num_rendered) == (ROWS, ROWS)
    assert report.images_per_second > 0
    assert str(report.preview) in report.summary()
    names = {path.name for path in report.yaml_path.parent.iterdir()}
    parts = {
        f"train.{part}.{end}"
        for part in ("img", "label", "hw", "linelist")
        for end in ("tsv", "lineidx")
    }
    assert names == parts | {"train.yaml", "train.synth.json", "train.preview.png"}
    sheet = cv2.imread(str(report.preview))
    assert sheet is not None
    assert sheet.std() > 20


def test_rows_are_metros_and_say_whose_mesh_they_carry(rendered):
    report, body = rendered
    rows = _rows(report, body)
    assert len(rows) == ROWS
    assert rows[3].key == f"synth_{body.spec.kind}/11/000003.jpg"
    for row in rows:
        assert decode_image(row.image_bytes).shape == (SIZE, SIZE, 3)
        assert row.hw == (SIZE, SIZE)
        assert row.label["has_smpl"] == 0
        assert row.label["has_mesh"] == 1
        assert row.label["body_model"] == body.spec.name
        label = parse_label(row.label, body.spec)
        assert label.has_mesh
        assert label.has_joints_3d
        assert label.has_keypoints_2d
        other = parse_label(row.label, get_spec("smpl" if body.spec.kind == "body" else "mano"))
        assert not other.has_mesh


def test_joints_of_the_posed_mesh_are_the_labels(rendered):
    report, body = rendered
    for row in _rows(report, body):
        label, posed = _posed(row, body)
        np.testing.assert_allclose(label.joints_3d[:, :3], posed.joints[0].numpy(), atol=1e-5)
        regressed = body.joints_from_mesh(posed.vertices)[0].numpy()
        chosen = label.joints_3d[list(body.spec.label_to_joints), :3]
        np.testing.assert_allclose(regressed, chosen, atol=1e-4)


def test_the_person_fills_box_and_picture_and_stands_upright(rendered):
    report, body = rendered
    for row in _rows(report, body):
        label = parse_label(row.label, body.spec)
        points, half = label.keypoints_2d[:, :2], 100 * label.scale
        assert (np.abs(points - label.center) < half / 1.2 + 1e-3).all()
        assert 0.4 * SIZE < 2 * half < 1.2 * SIZE
        inside = ((points >= 0) & (points <= SIZE - 1)).all(axis=1)
        assert np.array_equal(label.keypoints_2d[:, 2] == 1, inside)
    names = body.spec.label_joints.names
    if body.spec.kind == "body":
        heads = [
            row.label["3d_joints"][names.index("Neck")][1]
            - row.label["3d_joints"][names.index("Pelvis")][1]
            for row in _rows(report, body)
        ]
        assert max(heads) < -0.2  # y points down


@pytest.mark.parametrize("kind", ["body", "hand"])
def test_picture_and_labels_share_one_camera(kind):
    """The drawn pixels are where the label's projection puts the mesh, joints included."""
    body = load_body(f"anny_{kind}")
    renderer = SceneRenderer(body, SIZE)
    faces = body.faces.numpy()
    for index in range(4):
        scene = sample_scene(
            np.random.default_rng([5, index]),
            renderer.rest,
            view="wide",
            num_betas=body.spec.num_betas,
        )
        with torch.no_grad():
            posed = body(
                torch.from_numpy(scene.pose).float()[None],
                torch.from_numpy(scene.betas).float()[None],
            )
        vertices, joints = posed.vertices[0].double().numpy(), posed.joints[0].double().numpy()
        projection = renderer.place(vertices, scene.camera)
        layer = renderer.draw_subject(scene, vertices, projection)
        coverage = layer[..., 3]
        mesh = raycast.render(projection(vertices), faces, SIZE, SIZE).face_index >= 0
        assert (mesh & (coverage == 0)).sum() < 0.005 * mesh.sum()
        if kind == "body":  # a hand's picture also has a forearm
            assert (~mesh & (coverage > 0.99)).sum() < 0.005 * mesh.sum()
        near = cv2.dilate(mesh.astype(np.uint8), np.ones((5, 5))) > 0
        for x, y in np.rint(projection(joints)[:, :2]).astype(int):
            if 0 <= x < SIZE and 0 <= y < SIZE:
                assert near[y, x]


def test_the_box_is_metros(rendered):
    """Scale is 1.2 times the longer side of the mesh's box over 200 px, around its centre."""
    report, body = rendered
    settings = synth_shard.SynthSettings(kind=body.spec.kind, num=ROWS, seed=11, size=SIZE)
    renderer = SceneRenderer(body, SIZE)
    for index, row in enumerate(_rows(report, body)):
        label, posed = _posed(row, body)
        camera = sample_scene(
            np.random.default_rng([settings.seed, index]),
            renderer.rest,
            view="wide",
            num_betas=body.spec.num_betas,
        ).camera
        pixels = renderer.place(posed.vertices[0].double().numpy(), camera)(
            posed.vertices[0].double().numpy()
        )
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        assert label.scale == pytest.approx(1.2 * max(high - low) / 200, abs=1e-4)
        np.testing.assert_allclose(label.center, 0.5 * (low + high), atol=1e-2)


def test_training_samples_can_be_made_of_them(rendered):
    report, body = rendered
    dataset = open_dataset(report.yaml_path, body.spec)
    transform = SampleTransform(body.spec, train=True, seed=0)
    sample = transform(dataset.row(0), 0, 0)
    assert sample.has_mesh
    assert sample.image.shape == (3, 224, 224)
    assert sample.image.std() > 5


def test_a_finished_data_set_is_reused(rendered):
    report, body = rendered
    folder = report.yaml_path.parent
    before = _digests(folder)
    again = run_synth(body.spec.kind, ROWS, folder, 11, size=SIZE, processes=1)
    assert (again.num_rendered, again.num_rows, again.images_per_second) == (0, ROWS, 0)
    assert _digests(folder) == before


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(rendered, tmp_path, monkeypatch):
    report, body = rendered
    kind = body.spec.kind
    render_shard, done = synth.render_shard, []

    def stop_at_the_second(shard):
        if done:
            (tmp_path / f"{shard.name}.img.tsv.partial").write_text("half a row")
            raise KeyboardInterrupt
        done.append(shard)
        return render_shard(shard)

    monkeypatch.setattr(synth, "render_shard", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_synth(kind, ROWS, tmp_path, 11, size=SIZE, processes=1)
    assert not (tmp_path / "train.yaml").exists()
    monkeypatch.undo()
    synth_again = run_synth_with_small_shards(monkeypatch, kind, tmp_path)
    assert synth_again.num_rendered == ROWS - 4
    assert _digests(tmp_path) == _digests(report.yaml_path.parent)


def run_synth_with_small_shards(monkeypatch, kind, folder):
    monkeypatch.setattr(synth, "SHARD_ROWS", 4)
    return run_synth(kind, ROWS, folder, 11, size=SIZE, processes=1)


def test_other_settings_in_the_same_folder_are_refused(rendered):
    report, body = rendered
    folder = report.yaml_path.parent
    before = _digests(folder)
    with pytest.raises(
        DataError, match=r"seed 11 there, 12 asked for; size 128 there, 96 asked for"
    ):
        run_synth(body.spec.kind, ROWS, folder, 12, size=96)
    with pytest.raises(DataError, match="view 'wide' there, 'full' asked for"):
        run_synth(body.spec.kind, ROWS, folder, 11, size=SIZE, view="full")
    assert _digests(folder) == before


def test_a_folder_that_was_changed_by_hand_is_refused(rendered, tmp_path):
    report, body = rendered
    for path in report.yaml_path.parent.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "train.linelist.tsv").write_text("0\n1\n")
    (tmp_path / "train.linelist.lineidx").write_text("0\n2\n")
    with pytest.raises(DataError, match="has 2 rows, 9 were rendered"):
        run_synth(body.spec.kind, ROWS, tmp_path, 11, size=SIZE)
    (tmp_path / "train.synth.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        run_synth(body.spec.kind, ROWS, tmp_path, 11, size=SIZE)
    (tmp_path / "train.synth.json").unlink()
    with pytest.raises(DataError, match="was not made by metro-ray synth"):
        run_synth(body.spec.kind, ROWS, tmp_path, 11, size=SIZE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "foot"}, "kind must be body or hand"),
        ({"num": 0}, "num must be >= 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"size": 8}, "size must be within 64 and 2048"),
        ({"view": "top"}, "view must be one of wide, full, front"),
        ({"setting": "street"}, "setting must be one of varied, studio"),
        ({"processes": 0}, "processes must be >= 1"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(change, words, tmp_path):
    arguments = {"kind": "body", "num": 1, "out": tmp_path / "new", "seed": 0} | change
    with pytest.raises(DataError, match=words):
        run_synth(**arguments)
    assert not (tmp_path / "new").exists()


def test_images_do_not_depend_on_how_many_there_are(rendered, tmp_path):
    report, body = rendered
    fewer = run_synth(body.spec.kind, 6, tmp_path, 11, size=SIZE, processes=1)
    for first, second in zip(_rows(fewer, body), _rows(report, body), strict=False):
        assert (first.key, first.label, first.image_bytes) == (
            second.key,
            second.label,
            second.image_bytes,
        )


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "SHARD_ROWS", synth_shard.SHARD_ROWS)
    with pytest.MonkeyPatch.context() as whole:  # spawned processes do not see small shards
        for module in (synth, synth_shard):
            whole.setattr(module, "SHARD_ROWS", 50)
        digests = []
        for processes in (1, 2):
            folder = tmp_path / str(processes)
            run_synth("hand", 60, folder, 3, size=64, processes=processes)
            digests.append(_digests(folder))
    assert digests[0] == digests[1]


def test_studio_shows_nothing_but_the_subject_before_a_bright_wall():
    body = load_body("anny_body")
    renderer = SceneRenderer(body, SIZE, "studio")
    for index in range(6):
        rng = np.random.default_rng([7, index])
        scene = sample_scene(rng, renderer.rest, view="wide", num_betas=body.spec.num_betas)
        with torch.no_grad():
            posed = body(
                torch.from_numpy(scene.pose).float()[None],
                torch.from_numpy(scene.betas).float()[None],
            )
        mesh = posed.vertices[0].double().numpy()
        projection = renderer.place(mesh, scene.camera)
        picture = renderer.draw(scene, mesh, projection)
        subject = renderer.draw_subject(scene, mesh, projection)[..., 3] > 0
        wall = ~(cv2.dilate(subject.astype(np.uint8), np.ones((9, 9))) > 0)
        assert picture[wall].min() > 120
        assert picture[wall].std(axis=0).max() < 20
