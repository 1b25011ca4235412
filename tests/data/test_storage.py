"""Data sets behind URLs: the same rows, retries where a store fails for a while, words where it fails for good."""

import logging
import threading

import fsspec
import numpy as np
import pytest
import upath.registry
from fsspec.implementations.memory import MemoryFileSystem
from small_rows import write_rows
from upath import UPath

from metro_ray.bodies.spec import get_spec
from metro_ray.data import open_dataset, storage
from metro_ray.data.fetch import load_rows
from metro_ray.data.transform import SampleTransform, load_row
from metro_ray.errors import DataError, StorageError


class FlakyFileSystem(MemoryFileSystem):
    """Memory whose reads fail `failures` times before they work."""

    protocol = "flaky"
    cachable = False
    store = MemoryFileSystem.store
    failures = 0
    error = ConnectionResetError("connection reset")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("flaky://", "memory://"))

    def cat_file(self, *args, **kwargs):
        if FlakyFileSystem.failures > 0:
            FlakyFileSystem.failures -= 1
            raise FlakyFileSystem.error
        return super().cat_file(*args, **kwargs)


@pytest.fixture
def memory():
    """An empty in-memory file system."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def flaky(memory, monkeypatch):
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    upath.registry.register_implementation("flaky", UPath, clobber=True)
    monkeypatch.setattr(storage, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(storage, "LONGEST_PAUSE_S", 0.002)
    FlakyFileSystem.failures = 0
    return FlakyFileSystem


def upload(folder, url):
    target = storage.as_path(url)
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def assert_same_rows(one, other):
    assert len(one) == len(other)
    for row_id in range(len(one)):
        a, b = one.row(row_id), other.row(row_id)
        assert a._replace(where="") == b._replace(where="")


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_remote_rows_equal_local_ones(store, tmp_path, request):
    url = "memory://rows" if store == "memory" else request.getfixturevalue("s3")
    if store == "memory":
        request.getfixturevalue("memory")
    local = open_dataset(write_rows(tmp_path, "train", 7))
    upload(tmp_path, f"{url}/set")
    remote = open_dataset(f"{url}/set/train.yaml")
    assert remote.remote
    assert not local.remote
    assert_same_rows(local, remote)
    below_root = open_dataset("set/train.yaml", root=url)
    assert below_root.key(3) == "row3.jpg"


def test_missing_remote_files_are_named(memory, tmp_path):
    write_rows(tmp_path, "train", 2)
    upload(tmp_path, "memory://rows")
    storage.as_path("memory://rows/train.label.lineidx").unlink()
    with pytest.raises(DataError, match=r"train.label.tsv: its line index .* is missing"):
        open_dataset("memory://rows/train.yaml")
    with pytest.raises(DataError, match=r"memory://rows/nothing\.yaml does not exist"):
        open_dataset("memory://rows/nothing.yaml")


def test_a_store_that_fails_for_a_while_is_asked_again(flaky, tmp_path, caplog):
    write_rows(tmp_path, "train", 3)
    upload(tmp_path, "memory://rows")
    dataset = open_dataset("flaky://rows/train.yaml")
    flaky.failures = storage.MAX_ATTEMPTS - 1
    with caplog.at_level(logging.WARNING):
        assert dataset.row(1).key == "row1.jpg"
    assert "connection reset" in caplog.text
    assert f"attempt 2 of {storage.MAX_ATTEMPTS}" in caplog.text


def test_a_store_that_keeps_failing_stops_the_run_and_is_no_bad_row(flaky, tmp_path):
    write_rows(tmp_path, "train", 3)
    upload(tmp_path, "memory://rows")
    dataset = open_dataset("flaky://rows/train.yaml")
    flaky.failures = 10 * storage.MAX_ATTEMPTS
    transform = SampleTransform(get_spec("anny_body"), train=False)
    with pytest.raises(StorageError, match=r"flaky.*failed 6 times.*connection reset"):
        load_row(dataset, transform, 1, 0)


def test_rows_of_a_store_are_asked_for_together(flaky, tmp_path, monkeypatch):
    """As many as wait at the barrier must be under way at once, or it breaks."""
    write_rows(tmp_path, "train", 8)
    upload(tmp_path, "memory://rows")
    dataset = open_dataset("flaky://rows/train.yaml")
    transform = SampleTransform(get_spec("anny_body"), train=True)
    alone = [load_row(dataset, transform, entry, 2) for entry in (5, 1, 7, 3)]
    barrier, key = threading.Barrier(4), dataset.row

    def wait_for_others(row_id):
        barrier.wait(timeout=20)
        return key(row_id)

    monkeypatch.setattr(dataset, "row", wait_for_others)
    together = load_rows(dataset, transform, [5, 1, 7, 3], 2)
    assert [row.key for row in together] == ["row5.jpg", "row1.jpg", "row7.jpg", "row3.jpg"]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.sample.image, other.sample.image)


def test_refused_access_is_not_repeated(flaky, tmp_path, monkeypatch):
    write_rows(tmp_path, "train", 3)
    upload(tmp_path, "memory://rows")
    dataset = open_dataset("flaky://rows/train.yaml")
    monkeypatch.setattr(flaky, "error", PermissionError("denied"))
    flaky.failures = 2
    with pytest.raises(DataError, match="access is refused"):
        dataset.row(1)
    assert flaky.failures == 1


def test_unknown_protocols_and_missing_drivers_are_named():
    with pytest.raises(DataError, match="nosuch://"):
        open_dataset("nosuch://bucket/train.yaml")
