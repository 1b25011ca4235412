import hashlib
import shutil

import numpy as np
import pytest

from metro_ray.bodies import asset_report, available_bodies, find_asset, load_body, resolve_mesh
from metro_ray.bodies.assets import SMPL_FILE, assets_folder
from metro_ray.errors import AssetError, AssetNotFoundError, ConfigError


@pytest.fixture(autouse=True)
def no_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("METRO_RAY_ASSETS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_folder_is_argument_then_variable_then_default(monkeypatch):
    assert str(assets_folder()) == "assets"
    monkeypatch.setenv("METRO_RAY_ASSETS", "/elsewhere")
    assert str(assets_folder()) == "/elsewhere"
    assert str(assets_folder("/given")) == "/given"


@pytest.mark.parametrize(
    ("name", "site"), [("smpl", "smpl.is.tue.mpg.de"), ("mano", "mano.is.tue.mpg.de")]
)
def test_missing_model_says_which_file_where_to_register_and_where_to_put_it(tmp_path, name, site):
    with pytest.raises(AssetNotFoundError) as caught:
        load_body(name, tmp_path)
    message = str(caught.value)
    assert site in message
    assert str(tmp_path) in message
    assert "METRO_RAY_ASSETS" in message
    assert (SMPL_FILE if name == "smpl" else "MANO_RIGHT.pkl") in message
    assert isinstance(caught.value, FileNotFoundError)


def test_report_has_checksums_and_what_is_missing(assets_dir):
    report = {asset.name: asset for asset in asset_report(assets_dir)}
    smpl = report[SMPL_FILE]
    content = (assets_dir / SMPL_FILE).read_bytes()
    assert smpl.present
    assert smpl.size == len(content)
    assert smpl.sha256 == hashlib.sha256(content).hexdigest()
    assert smpl.expected_sha256 is None
    assert not smpl.differs
    stand_in = report["mesh_downsampling.npz"]
    assert stand_in.differs  # the recipe's file is not METRO's
    released = report["metro_3dpw_state_dict.bin"]
    assert (released.present, released.sha256, released.size) == (False, None, None)
    assert released.how_to_get
    assert any(name.startswith("anny") and asset.present for name, asset in report.items())


def test_available_bodies(assets_dir, tmp_path):
    assert all(status.present for status in available_bodies(assets_dir).values())
    nothing = available_bodies(tmp_path)
    assert not nothing["smpl"].present
    assert SMPL_FILE in nothing["smpl"].missing
    assert nothing["mano"].missing == ("MANO_RIGHT.pkl", "mano_downsampling.npz")
    assert nothing["anny_body"].present


def test_auto_prefers_licensed_models_and_says_what_lacks(assets_dir, tmp_path):
    assert resolve_mesh("body", "auto", assets_dir)[0] == "smpl"
    assert resolve_mesh("hand", "auto", assets_dir)[0] == "mano"
    name, reason = resolve_mesh("body", "auto", tmp_path)
    assert name == "anny_body"
    assert SMPL_FILE in reason
    shutil.copy(assets_dir / "MANO_RIGHT.pkl", tmp_path)
    name, reason = resolve_mesh("hand", "auto", tmp_path)
    assert name == "anny_hand"
    assert "mano_downsampling.npz" in reason
    assert "MANO_RIGHT.pkl" not in reason


def test_requested_mesh_must_fit_the_task(tmp_path):
    assert resolve_mesh("body", "smpl", tmp_path)[0] == "smpl"
    with pytest.raises(ConfigError, match="mano is not a body; choose one of: smpl, anny_body"):
        resolve_mesh("body", "mano", tmp_path)
    with pytest.raises(ConfigError, match="unknown body model 'smplx'"):
        load_body("smplx")


def test_find_asset_gives_the_path(assets_dir):
    assert find_asset("MANO_RIGHT.pkl", assets_dir) == assets_dir / "MANO_RIGHT.pkl"


@pytest.fixture
def copied(assets_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(assets_dir, folder)
    return folder


def test_regressor_of_another_shape_is_refused(copied):
    np.save(copied / "J_regressor_extra.npy", np.zeros((9, 6890)))
    with pytest.raises(AssetError, match=r"J_regressor_extra.*\(14, 6890\), got \(9, 6890\)"):
        load_body("smpl", copied)


def test_regressor_with_objects_is_refused(copied):
    np.save(copied / "J_regressor_extra.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(AssetError, match=r"J_regressor_extra\.npy cannot be read"):
        load_body("smpl", copied)


def test_model_of_another_kind_is_refused(copied):
    shutil.copy(copied / SMPL_FILE, copied / "MANO_RIGHT.pkl")
    with pytest.raises(AssetError, match=r"MANO_RIGHT\.pkl: shapedirs should be .*778 x 3 x any"):
        load_body("mano", copied)


def test_sampling_of_another_kind_is_refused(copied):
    shutil.copy(copied / "mano_downsampling.npz", copied / "mesh_downsampling.npz")
    with pytest.raises(AssetError, match=r"mesh_downsampling\.npz: D\[0\] .*\(1723, 6890\)"):
        load_body("smpl", copied)
