"""run_train: from a config to result.json on a local cluster, and every way it says no."""

import json
from pathlib import Path

import pytest
import torch
from small_rows import write_rows

from metro_ray.cluster import train
from metro_ray.cluster.preflight import CheckedRun
from metro_ray.cluster.resources import NodeResources, plan_resources
from metro_ray.cluster.train import run_train
from metro_ray.config.load import to_dict
from metro_ray.errors import (
    AssetNotFoundError,
    CheckpointError,
    ConfigError,
    DataError,
    TrainingError,
)
from metro_ray.training.checkpoint_meta import CheckpointMeta

from .conftest import NUM_VAL


@pytest.fixture
def no_cluster(monkeypatch):
    """Fails the test if anything asks for a cluster."""
    monkeypatch.setattr(
        "metro_ray.cluster.train.cluster", lambda config: pytest.fail("a cluster was asked for")
    )


def test_missing_files_are_told_before_a_cluster_is_asked_for(no_cluster, make_config, tmp_path):
    here = {"run.output_dir": str(tmp_path / "run")}
    with pytest.raises(DataError, match=r"absent\.yaml"):
        run_train(make_config(**here, **{"data.train_yaml": str(tmp_path / "absent.yaml")}))
    path = write_rows(tmp_path, "train", 4)
    (tmp_path / "train.label.lineidx").unlink()
    with pytest.raises(DataError, match=r"train\.label\.lineidx is missing"):
        run_train(make_config(**here, **{"data.train_yaml": str(path)}))
    path.write_text("img: train.img.tsv\n")
    with pytest.raises(DataError, match="label"):
        run_train(make_config(**here, **{"data.train_yaml": str(path)}))


def test_settings_and_files_of_the_model_are_checked_first(no_cluster, make_config, tmp_path):
    here = {"run.output_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="nothing to train on"):
        run_train(make_config(**here, **{"data.train_yaml": None}))
    with pytest.raises(ConfigError, match=r"eval\.only needs a data set"):
        run_train(make_config(**here, **{"eval.only": True, "data.val_yaml": None}))
    with pytest.raises(AssetNotFoundError, match="SMPL"):
        run_train(make_config(**here, **{"model.mesh": "smpl", "assets.root": str(tmp_path)}))
    with pytest.raises(CheckpointError, match=r"absent\.bin does not exist"):
        run_train(make_config(**here, **{"run.resume_checkpoint": str(tmp_path / "absent.bin")}))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"run\.output_dir"):
        run_train(make_config(**{"run.output_dir": str(tmp_path / "file" / "run")}))


def test_an_earlier_run_is_never_replaced_by_accident(no_cluster, make_config, tmp_path):
    from metro_ray.cluster.preflight import check_run
    from metro_ray.training.checkpoint import save_checkpoint

    config = make_config(**{"run.output_dir": str(tmp_path)})
    meta = CheckpointMeta(
        config=to_dict(config), mesh="anny_body", epoch=1, step=13, row_in_epoch=0, world_size=1
    )
    network = torch.nn.Linear(1, 1)
    save_checkpoint(tmp_path / "checkpoints", network, torch.optim.Adam(network.parameters()), meta)
    with pytest.raises(
        ConfigError, match=r"holds an earlier run \(its last checkpoint is checkpoint-1-13\)"
    ):
        run_train(config)
    changed = {"run.output_dir": str(tmp_path), "run.resume": True}
    assert check_run(make_config(**changed)).stale_checkpoint is None
    with pytest.raises(CheckpointError, match="hidden_feat_dim"):
        run_train(make_config(**changed, **{"model.hidden_feat_dim": [8, 8]}))
    replaced = check_run(make_config(**{"run.output_dir": str(tmp_path), "run.overwrite": True}))
    assert replaced.stale_checkpoint.startswith("checkpoint-1-13")
    with pytest.raises(ConfigError, match=r"run\.overwrite"):
        make_config(**changed, **{"run.overwrite": True})


def test_each_start_after_a_loss_knows_why_it_happens(make_config, tmp_path, monkeypatch):
    from ray.exceptions import RayActorError
    from ray.train import WorkerGroupError

    reasons, stops = [], []

    class Trainer:
        return_value = {"epochs": 3}  # noqa: RUF012

        def fit(self):
            stops[-1].touch()  # asked to stop for growth when a rank is lost
            if len(reasons) < 3:
                raise WorkerGroupError("lost", {len(reasons) - 1: RayActorError()})
            return self

    def make(run, plan, storage, callbacks, start_reason):
        reasons.append(start_reason)
        stops.append(storage / train._STOP_FILE)
        assert not stops[-1].exists()  # or the new ranks would stop at once
        return Trainer()

    monkeypatch.setattr(train, "_make_trainer", make)
    config = make_config(**{"run.output_dir": str(tmp_path / "run")})
    run = CheckedRun(config, "anny_body", "asked for", stale_checkpoint=None)
    (tmp_path / "run").mkdir()
    assert train.fit_run(run, plan_resources([NodeResources(4)], config)) == {"epochs": 3}
    assert reasons == [
        None,
        "rank(s) 0 were lost (1 of 3 failures)",
        "rank(s) 1 were lost (2 of 3 failures)",
    ]


@pytest.mark.ray
def test_a_run_of_one_rank_then_its_evaluation_and_another_network(
    ray_cluster, make_config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    short = {"optim.epochs": 1, "run.output_dir": "run"}
    summary = run_train(make_config(**short))
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary.run_dir == tmp_path / "run"
    assert written["val/num_rows"] == NUM_VAL
    assert written["bad_rows"]["count"] == 2
    assert written["world_size"] == 1
    assert Path(written["checkpoint"]).is_dir()
    assert not (tmp_path / "run" / ".ray").exists()
    assert f"{written['val/pa_mpjpe_mm']:.1f} mm" in summary.text()
    assert str(tmp_path / "run" / "result.json") in summary.text()

    again = {"run.resume_checkpoint": written["checkpoint"], "run.output_dir": "evaluated"}
    measured = run_train(make_config(**again, **{"eval.only": True}))
    assert measured.result["val/pa_mpjpe_mm"] == pytest.approx(written["val/pa_mpjpe_mm"], rel=1e-4)

    with pytest.raises(CheckpointError, match="hidden_feat_dim"):
        run_train(make_config(**again, **{"model.hidden_feat_dim": [8, 8]}))


@pytest.mark.ray
def test_two_ranks_count_every_validation_row_once(ray_cluster, make_config, tmp_path):
    summary = run_train(
        make_config(
            **{
                "scaling.train_workers": 2,
                "optim.epochs": 1,
                "optim.per_gpu_batch_size": 8,
                "run.output_dir": str(tmp_path / "run"),
            }
        )
    )
    assert summary.result["world_size"] == 2
    assert summary.result["val/num_rows"] == NUM_VAL
    assert summary.result["bad_rows"]["count"] == 2


@pytest.mark.ray
def test_an_error_inside_a_rank_reaches_the_user_as_it_was_raised(
    ray_cluster, make_config, tmp_path, capfd
):
    with pytest.raises(DataError, match=r"2 rows cannot be read, data.max_bad_rows allows 1"):
        run_train(make_config(**{"data.max_bad_rows": 1, "run.output_dir": str(tmp_path / "run")}))
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.ray
def test_a_bug_inside_a_rank_is_named_with_its_type(
    ray_cluster, make_config, tmp_path, monkeypatch
):
    from metro_ray.cluster import train

    def broken(settings):
        raise KeyError("nobody caught this")

    monkeypatch.setattr(train, "train_rank", broken)
    with pytest.raises(TrainingError, match="rank 0 failed with KeyError: 'nobody caught this'"):
        run_train(make_config(**{"run.output_dir": str(tmp_path / "run")}))


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_rank_is_started_again_from_the_last_checkpoint(
    ray_cluster, make_config, tmp_path, monkeypatch
):
    from metro_ray.cluster import train

    def dies_after_its_first_report(settings):
        import os
        import signal
        from pathlib import Path

        from metro_ray.cluster.train import train_rank
        from metro_ray.cluster.worker import RayWorker

        marker = Path(settings["config"]["run"]["output_dir"]) / "died"
        report = RayWorker.report

        def report_and_die(self, metrics, checkpoint=None):
            report(self, metrics, checkpoint)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        RayWorker.report = report_and_die
        return train_rank(settings)

    monkeypatch.setattr(train, "train_rank", dies_after_its_first_report)
    run = tmp_path / "run"
    at_once = {"run.background_checkpoints": False}  # so the report means that it is written
    summary = run_train(make_config(**at_once, **{"optim.epochs": 2, "run.output_dir": str(run)}))
    assert (run / "died").exists()
    log = (run / "log.txt").read_text()
    assert "epoch 1, row 0" in log.split("Continuing from")[1].splitlines()[0]
    assert summary.result["epochs"] == 2
