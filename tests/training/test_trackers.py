"""Trackers get what metrics.csv gets, and their trouble is never the training's."""

import json
import threading
from pathlib import Path

import pytest

from metro_ray.errors import ConfigError, RunStopped
from metro_ray.training import trackers
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit
from metro_ray.training.trackers import Trackers, require_trackers


class Fake:
    """Keeps what it is given; fails where it is told to."""

    def __init__(self, broken=None):
        self.broken = broken
        self.started, self.logged, self.finished = [], [], None

    def start(self, config, settings, run_id):
        self.started.append((settings, run_id))
        return run_id or "first"

    def log(self, values, step):
        if self.broken and len(self.logged) == 1:
            raise self.broken
        self.logged.append((dict(values), step))

    def finish(self, numbers, texts, status):
        self.finished = (dict(numbers), dict(texts), status)


@pytest.fixture
def fake(monkeypatch):
    """The tracker behind both names."""
    fake = Fake()
    monkeypatch.setattr(trackers, "find_spec", lambda name: object())
    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": lambda: fake, "wandb": lambda: fake})
    return fake


def test_a_run_and_its_continuation_are_one_run_at_the_tracker(body, tiny_data, make_config, fake):
    config = make_config(run__trackers=["mlflow"], optim__epochs=1)
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    [(settings, run_id)] = fake.started
    assert run_id is None
    assert settings["optim.lr"] == config.optim.lr
    assert settings["model.hidden_feat_dim"] == (16, 8)
    assert [step for values, step in fake.logged if "train/loss" in values] == [1, 2]
    [(values, _)] = [logged for logged in fake.logged if "val/mpjpe_mm" in logged[0]]
    assert values["val/mpjpe_mm"] == pytest.approx(done.metrics["val/mpjpe_mm"])
    numbers, texts, status = fake.finished
    assert status == "finished"
    assert texts["checkpoint"] == str(done.checkpoint)
    assert numbers["result/val/mpjpe_mm"] == done.result["val/mpjpe_mm"]
    assert json.loads((done.run_dir / "trackers.json").read_text()) == {"mlflow": "first"}
    last = done.run_dir / "checkpoints" / "last"
    longer = make_config(run__trackers=["mlflow"], optim__epochs=2)
    fit(longer, LocalWorker("cpu", checkpoint=last), tiny_data(), body=body)
    assert fake.started[1][1] == "first"
    assert [step for values, step in fake.logged if "train/loss" in values] == [1, 2, 3, 4]


def test_a_tracker_that_fails_is_given_up_with_one_warning(
    body, tiny_data, make_config, fake, capsys
):
    fake.broken = ConnectionError("the server is gone")
    config = make_config(run__trackers=["wandb"])
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    assert done.result["epochs"] == 2
    warnings = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line]
    assert len([line for line in warnings if "the server is gone" in line]) == 1
    assert len(fake.logged) == 1
    assert fake.finished is None


def test_a_tracker_that_hangs_delays_the_end_only_so_long(
    make_config, fake, monkeypatch, caplog, tmp_path
):
    (tmp_path / "run").mkdir()
    hang = threading.Event()
    fake.log = lambda values, step: hang.wait()
    monkeypatch.setattr(trackers, "_CLOSE_S", 0.2)
    with Trackers(make_config(run__trackers=["mlflow"]), enabled=True, continued=False) as sent:
        sent.log({"train/loss": 1.0}, 1)
    hang.set()
    assert "does not answer" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"), [(RunStopped("asked"), "stopped"), (ValueError("bug"), "failed")]
)
def test_how_a_run_ended_is_told(make_config, fake, tmp_path, error, status):
    (tmp_path / "run").mkdir()
    config = make_config(run__trackers=["mlflow"])
    with pytest.raises(type(error)), Trackers(config, enabled=True, continued=False):
        raise error
    assert fake.finished[2] == status


def test_other_ranks_and_runs_without_trackers_send_nothing(make_config, fake):
    for config, enabled in (
        (make_config(run__trackers=["mlflow"]), False),
        (make_config(), True),
    ):
        with Trackers(config, enabled=enabled, continued=False) as sent:
            sent.log({"train/loss": 1.0}, 1)
    assert not fake.started


def test_a_missing_package_is_told_before_anything_starts(
    body, tiny_data, make_config, monkeypatch
):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    config = make_config(run__trackers=["mlflow", "wandb"])
    with pytest.raises(ConfigError, match=r"pip install 'metro-ray\[mlflow,wandb\]'"):
        require_trackers(config)
    with pytest.raises(ConfigError, match="not installed here"):
        fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    assert not Path(config.run.output_dir).exists()


def test_an_unknown_tracker_is_refused(make_config):
    with pytest.raises(ConfigError, match=r"run\.trackers must be a list of mlflow and wandb"):
        make_config(run__trackers=["comet"])


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # MLflow's tables, with a newer SQLAlchemy
def test_mlflow_holds_the_run(body, tiny_data, make_config, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(
        "mlflow.tracking._tracking_service.utils._tracking_uri", None, raising=False
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    config = make_config(run__trackers=["mlflow"], optim__epochs=1, run__experiment="bodies")
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    last = done.run_dir / "checkpoints" / "last"
    longer = make_config(
        run__trackers=["mlflow"], optim__epochs=2, run__experiment="bodies", optim__lr=1e-5
    )
    done = fit(longer, LocalWorker("cpu", checkpoint=last), tiny_data(), body=body)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("bodies")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.arch"] == "tiny"
    assert run.data.tags["optim.lr"] == "1e-05", "a setting that changed"
    assert run.data.tags["checkpoint"] == str(done.checkpoint)
    assert run.data.metrics["result/val/mpjpe_mm"] == pytest.approx(done.result["val/mpjpe_mm"])
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == [1, 2, 3, 4]


@pytest.mark.slow
def test_wandb_holds_the_run_offline(body, tiny_data, make_config, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = make_config(run__trackers=["wandb"], optim__epochs=1)
    done = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    run_id = json.loads((done.run_dir / "trackers.json").read_text())["wandb"]
    [folder] = (done.run_dir / "wandb").glob(f"offline-run-*-{run_id}")
    [file] = folder.glob("run-*.wandb")
    content = file.read_bytes()
    for text in (b"train/loss", b"val/mpjpe_mm", b"optim.lr", b"result/val/mpjpe_mm"):
        assert text in content
    assert str(done.checkpoint).encode() in content
