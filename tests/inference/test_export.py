import numpy as np
import pytest
import trimesh

from metro_ray.errors import DataError
from metro_ray.inference.export import FORMATS, MESH_FORMATS, export_mesh


@pytest.mark.parametrize("ending", MESH_FORMATS)
def test_meshes_read_back_with_the_same_topology_standing_upright(ball, tmp_path, ending):
    path = export_mesh(ball, tmp_path / "new" / f"mesh{ending}")
    loaded = trimesh.load(path, process=False, force="mesh")
    np.testing.assert_allclose(loaded.vertices, ball.vertices * [1, -1, -1], atol=1e-6)
    np.testing.assert_array_equal(loaded.faces, ball.faces)
    assert loaded.volume > 0  # faces still look outwards


def test_arrays_read_back_unchanged(ball, tmp_path):
    with np.load(export_mesh(ball, tmp_path / "mesh.npz")) as arrays:
        for name in ("vertices", "faces", "joints", "camera", "vertices_px", "joints_px"):
            np.testing.assert_array_equal(arrays[name], getattr(ball, name))
        assert tuple(arrays["window"]) == ball.window
        assert tuple(arrays["joint_names"]) == ball.joint_set.names


def test_an_unknown_ending_lists_the_known_ones(ball, tmp_path):
    with pytest.raises(DataError, match=", ".join(FORMATS)):
        export_mesh(ball, tmp_path / "mesh.fbx")


@pytest.mark.parametrize("ending", MESH_FORMATS)
def test_a_mesh_before_the_camera(ball, tmp_path, ending):
    """3 m away and 1 m to the right: glTF's camera looks along -z."""
    path = export_mesh(ball, tmp_path / f"mesh{ending}", origin=np.array([1.0, 0.0, 3.0]))
    loaded = trimesh.load(path, process=False, force="mesh")
    np.testing.assert_allclose(loaded.vertices.mean(axis=0), [1, 0, -3], atol=1e-3)


def test_more_arrays_beside_the_result(ball, tmp_path):
    with np.load(
        export_mesh(ball, tmp_path / "m.npz", extra={"translation": np.ones(3)})
    ) as arrays:
        np.testing.assert_array_equal(arrays["translation"], 1)
        np.testing.assert_array_equal(arrays["vertices"], ball.vertices)
