"""A run's folder that goes with its machine, and comes back from where checkpoints are copied to."""

import shutil

import pytest

from metro_ray.cluster.run_folder import last_checkpoint, ray_records, restore_lost_folder
from metro_ray.errors import StorageError
from metro_ray.training.checkpoint_meta import META
from metro_ray.training.files import replace_link
from metro_ray.training.upload import RunUpload


@pytest.fixture
def config(make_config, tmp_path):
    def make(upload_to):
        folders = {"run.output_dir": str(tmp_path / "run"), "run.upload_to": upload_to}
        return make_config(**folders)

    return make


def write_checkpoint(run, name):
    folder = run / "checkpoints" / name
    folder.mkdir(parents=True)
    (folder / META).write_text(name)
    for link in ("last", "best"):
        replace_link(run / "checkpoints" / link, name)


def test_a_lost_folder_comes_back_and_one_that_is_there_is_left_alone(config, tmp_path):
    run, copies = tmp_path / "run", str(tmp_path / "copies")
    with ray_records(run) as records:
        write_checkpoint(run, "checkpoint-1-8")
        RunUpload(copies).checkpoints(run / "checkpoints")
        (run / "checkpoints" / "last").unlink()
        restore_lost_folder(config(copies), records)
        assert last_checkpoint(run) is None
        shutil.rmtree(run)
        restore_lost_folder(config(copies), records)
        assert records.is_dir()
        assert (last_checkpoint(run) / META).read_text() == "checkpoint-1-8"


def test_a_lost_folder_without_copies_is_an_error_that_says_what_to_do(config, tmp_path):
    run = tmp_path / "run"
    words = r"run was lost with its checkpoints; .* --run\.upload_to"
    with ray_records(run) as records:
        shutil.rmtree(run)
        with pytest.raises(StorageError, match=words):
            restore_lost_folder(config(None), records)


def test_copies_of_a_run_that_another_one_replaces_are_not_brought_back(config, tmp_path, caplog):
    run, copies = tmp_path / "run", str(tmp_path / "copies")
    write_checkpoint(run, "checkpoint-1-8")
    upload = RunUpload(copies)
    upload.checkpoints(run / "checkpoints")
    assert upload.holds_run()
    upload.forget()
    assert not upload.holds_run()
    with ray_records(run) as records:
        shutil.rmtree(run)
        restore_lost_folder(config(copies), records)
    assert last_checkpoint(run) is None
    assert "from " + copies + " came nothing, so the run begins anew" in caplog.text
    write_checkpoint(run, "checkpoint-1-2")
    upload.checkpoints(run / "checkpoints")
    assert upload.holds_run()
    assert not (tmp_path / "copies" / "checkpoints" / "checkpoint-1-8").exists()


def test_a_new_run_s_copies_are_its_own_where_names_are_the_same(tmp_path):
    run, copies = tmp_path / "run", tmp_path / "copies"
    upload = RunUpload(str(copies))
    for content in ("earlier", "new"):
        upload.forget()
        shutil.rmtree(run, ignore_errors=True)
        write_checkpoint(run, "checkpoint-1-8")
        (run / "checkpoints" / "checkpoint-1-8" / "meta.json").write_text(content)
        upload.checkpoints(run / "checkpoints")
    copied = copies / "checkpoints" / "checkpoint-1-8" / "meta.json"
    assert copied.read_text() == "new"
