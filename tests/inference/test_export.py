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
