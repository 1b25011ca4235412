import logging

import numpy as np
import pytest

from metro_ray.bodies.cache import cache_folder, cached_arrays


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("METRO_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(3), "b": np.eye(2, dtype=np.float32)}


def test_builds_once(folder):
    build = Builder()
    first = cached_arrays("x-1", build)
    second = cached_arrays("x-1", build)
    assert build.calls == 1
    assert cache_folder() == folder
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
        assert first[key].dtype == second[key].dtype
    assert [path.name for path in folder.iterdir()] == ["x-1.npz"]


def test_another_version_is_built_anew():
    build = Builder()
    cached_arrays("x-1", build)
    cached_arrays("x-2", build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_damaged_file_is_built_anew(folder, damage, caplog):
    build = Builder()
    cached_arrays("x-1", build)
    (folder / "x-1.npz").write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cached_arrays("x-1", build)["a"], [0, 1, 2])
    assert "damaged" in caplog.text
    cached_arrays("x-1", build)
    assert build.calls == 2


def test_unwritable_folder_still_gives_the_arrays(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METRO_RAY_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert cached_arrays("x-1", Builder())["a"].tolist() == [0, 1, 2]
    assert "METRO_RAY_CACHE" in caplog.text
