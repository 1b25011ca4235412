import csv
import json
import logging
from pathlib import Path

import pytest
import torch

from metro_ray.config.load import load_config
from metro_ray.errors import CheckpointError, RunStopped, TrainingError
from metro_ray.training.checkpoint_meta import read_meta
from metro_ray.training.context import LocalWorker
from metro_ray.training.live import read_live
from metro_ray.training.loop import fit


def rows_of(folder, kind="train"):
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["kind"] == kind]


def losses(folder):
    return {int(row["step"]): float(row["train/loss"]) for row in rows_of(folder)}


def test_result_json_and_files(whole_run):
    result, _, _ = whole_run
    written = json.loads((result.run_dir / "result.json").read_text())
    assert set(written) >= {
        "val/pa_mpjpe_mm", "val/mpjpe_mm", "val/mpve_mm", "baseline/pa_mpjpe_mm",
        "baseline/mpjpe_mm", "baseline/mpve_mm", "train/images_per_second",
        "train/data_wait_share", "checkpoint", "gallery", "bad_rows", "epochs", "steps",
        "seconds", "hardware", "mesh", "reasons",
    }  # fmt: skip
    assert written["mesh"] == {"name": "smpl", "reason": "asked for"}
    assert (written["epochs"], written["steps"]) == (2, 4)
    [bad] = written["bad_rows"]["rows"]
    assert (bad["key"], bad["reason"]) == ("broken.jpg", "cut")
    for name in ("val/pa_mpjpe_mm", "val/mpjpe_mm", "val/mpve_mm"):
        assert written[name] > 0
    assert 0 <= written["train/data_wait_share"] <= 1
    assert written["train/images_per_second"] > 0
    for name, value in written.items():
        if value is None:
            assert written["reasons"][name], f"{name} is null without a reason"
    assert written["baseline/mpve_mm"] is None
    assert "train_yaml" in written["reasons"]["baseline/mpve_mm"]
    best = read_meta(result.checkpoint)
    assert best.metrics["val/pa_mpjpe_mm"] == written["val/pa_mpjpe_mm"]
    assert best.best[0].value == written["val/pa_mpjpe_mm"]
    names = {path.name for path in result.run_dir.iterdir()}
    assert names >= {
        "checkpoints", "config.yaml", "log.txt", "metrics.csv", "progress.json", "report.html", "result.json",
        "tensorboard",
    }  # fmt: skip
    assert list((result.run_dir / "tensorboard").glob("events.out.*"))
    assert len(rows_of(result.run_dir, "val")) == 2
    live = read_live(result.run_dir)
    assert (live.phase, live.epoch, live.step, live.done_steps) == ("finishing", 2, 4, 4)
    assert live.images_per_second > 0


def test_every_epoch_is_reported_with_its_checkpoint(whole_run):
    result, worker, _ = whole_run
    assert [metrics["epoch"] for metrics, _ in worker.reports] == [1.0, 2.0]
    last_metrics, last_folder = worker.reports[-1]
    assert last_folder == (result.run_dir / "checkpoints" / "last").resolve()
    assert last_metrics["val/mpjpe_mm"] == result.metrics["val/mpjpe_mm"]


def test_config_yaml_reads_back(whole_run):
    result, _, config = whole_run
    assert load_config("body", preset=result.run_dir / "config.yaml") == config


@pytest.mark.parametrize("stop_after", [1, 2, 3], ids=["mid-epoch", "epoch end", "mid-epoch 2"])
def test_a_continued_run_repeats_the_losses(body, tiny_data, make_config, stop_after):
    """With dropout on: what a killed run would have done next is what the continued one does."""
    steps = {"optim__epochs": 2, "run__checkpoint_every": 1}
    fit(make_config("whole", **steps), LocalWorker("cpu"), tiny_data(), body=body)
    whole_run = _folder(make_config("whole", **steps))
    whole = losses(whole_run)

    class Killed(Exception):
        pass

    def kill(batch, epoch, index):
        if epoch * 2 + index == stop_after:
            raise Killed
        return batch

    config = make_config("killed", **steps)
    with pytest.raises(Killed):
        fit(config, LocalWorker("cpu"), tiny_data(spoil=kill), body=body)
    last = _folder(config) / "checkpoints" / "last"
    assert read_meta(last).step == stop_after
    data = tiny_data()
    torch.manual_seed(999)
    fit(config, LocalWorker("cpu", checkpoint=last), data, body=body)
    assert data.asked[0] == (stop_after // 2, 2 * (stop_after % 2))
    continued = losses(_folder(config))
    assert list(continued) == [1, 2, 3, 4]
    for step, loss in whole.items():
        assert continued[step] == pytest.approx(loss, rel=1e-6)
    for one, other in zip(*(rows_of(folder, "epoch") for folder in (_folder(config), whole_run))):
        assert float(one["epoch/rows"]) == float(other["epoch/rows"]) == 4.0
        assert float(one["epoch/loss"]) == pytest.approx(float(other["epoch/loss"]), rel=1e-6)
    result = json.loads((_folder(config) / "result.json").read_text())
    assert [start["step"] for start in result["starts"]] == [0, stop_after]
    assert [start["reason"] for start in result["starts"]] == ["new run", "run.resume"]
    assert read_meta(last.resolve().parent / "last").totals["run"][0]["num_images"] == 8


def test_the_schedule_follows_epochs_where_ranks_have_changed(body, tiny_data, make_config):
    """More ranks made fewer steps of the first epoch; the rest has the rates of this many ranks."""
    settings = {"optim__epochs": 3, "optim__schedule": "cosine", "run__checkpoint_every": 1}
    fit(make_config("whole", **settings), LocalWorker("cpu"), tiny_data(num_rows=8), body=body)
    whole = [float(row["train/lr"]) for row in rows_of(_folder(make_config("whole")))]
    config, worker = make_config("fewer", **settings), LocalWorker("cpu")

    def ask(batch, epoch, index):
        worker.stop = (epoch, index) == (0, 1)
        return batch

    with pytest.raises(RunStopped):
        fit(config, worker, tiny_data(num_rows=8, spoil=ask), body=body)
    last = _folder(config) / "checkpoints" / "last"
    meta = json.loads((last / "meta.json").read_text())
    assert (meta["step"], meta["row_in_epoch"]) == (2, 4)
    (last / "meta.json").write_text(json.dumps({**meta, "step": 1, "world_size": 2}))
    fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(num_rows=8), body=body)
    rates = [(int(row["step"]), float(row["train/lr"])) for row in rows_of(_folder(config))]
    assert rates[1:] == list(zip(range(2, 12), whole[2:], strict=True))


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(body, tiny_data, make_config):
    steps = {"optim__epochs": 2}
    fit(make_config("whole", **steps), LocalWorker("cpu"), tiny_data(), body=body)
    whole = losses(_folder(make_config("whole", **steps)))
    worker, config = LocalWorker("cpu"), make_config("stopped", **steps)

    def ask(batch, epoch, index):
        worker.stop = (epoch, index) == (1, 0)
        return batch

    with pytest.raises(RunStopped, match=r"stopped after step 3 \(epoch 1, row 2 of it\)"):
        fit(config, worker, tiny_data(spoil=ask), body=body)
    last = _folder(config) / "checkpoints" / "last"
    assert (read_meta(last).step, read_meta(last).row_in_epoch) == (3, 2)
    assert "completed successfully" not in (_folder(config) / "log.txt").read_text()
    done = fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(), body=body)
    assert done.result["epochs"] == 2
    assert losses(_folder(config)) == pytest.approx(whole, rel=1e-6)


class StopInValidation(LocalWorker):
    """Is asked to end once the epoch's rows are trained, before or after they are validated."""

    def __init__(self, ask):
        super().__init__("cpu")
        self.asked, self._at = 0, ask

    def stop_requested(self, step):
        self.asked += step == 0
        return step == 0 and self.asked == self._at


@pytest.mark.parametrize(
    ("ask", "words", "validated"),
    [
        (1, "stopped while validating epoch 0 as asked", 0),
        (2, "stopped after epoch 0 as asked", 1),
        (3, "stopped while validating epoch 1 as asked", 1),
    ],
)
def test_a_validation_ends_early_and_is_made_when_the_run_goes_on(
    body, tiny_data, make_config, ask, words, validated
):
    whole = fit(make_config("whole"), LocalWorker("cpu"), tiny_data(), body=body)
    config = make_config("stopped")
    with pytest.raises(RunStopped, match=words):
        fit(config, StopInValidation(ask), tiny_data(), body=body)
    folder = _folder(config)
    assert len(rows_of(folder, "val")) == validated
    last = folder / "checkpoints" / "last"
    assert read_meta(last).row_in_epoch == 0
    done = fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(), body=body)
    assert [int(row["epoch"]) for row in rows_of(folder, "val")] == [1, 2], "each epoch once"
    assert losses(folder) == pytest.approx(losses(whole.run_dir), rel=1e-6)
    assert done.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert not read_meta(last).validation_left
    ranked = {entry.epoch for entry in read_meta(last).best}
    assert ranked == {entry.epoch for entry in read_meta(whole.checkpoint).best} | ranked
    assert read_meta(done.checkpoint).metrics, "the best is one that was measured"


def test_an_evaluation_ends_when_it_is_asked_to(body, tiny_data, make_config):
    config = make_config(eval__only=True)
    worker = LocalWorker("cpu")
    worker.stop = True
    with pytest.raises(RunStopped, match="evaluation was stopped as asked"):
        fit(config, worker, tiny_data(), body=body)
    assert not (_folder(config) / "per_sample").exists()


def test_a_complete_run_that_goes_on_is_measured_again(body, tiny_data, make_config):
    config = make_config(optim__epochs=1)
    first = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    last = _folder(config) / "checkpoints" / "last"
    again = fit(config, LocalWorker("cpu", checkpoint=last), tiny_data(), body=body)
    assert again.metrics == pytest.approx(first.metrics)
    assert again.result["epochs"] == 1


def _folder(config):
    return Path(config.run.output_dir)


def test_resume_checkpoint_takes_weights_only(body, tiny_data, make_config, whole_run):
    result, _, _ = whole_run
    config = make_config(
        "tuned", run__resume_checkpoint=str(result.checkpoint), optim__lr=1e-12, optim__epochs=1
    )
    tuned = fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    assert read_meta(tuned.checkpoint).step == 2
    evaluate = make_config("eval", run__resume_checkpoint=str(result.checkpoint), eval__only=True)
    worker = LocalWorker("cpu")
    measured = fit(evaluate, worker, tiny_data(), body=body)
    expected = result.result["val/pa_mpjpe_mm"]
    assert measured.metrics["val/pa_mpjpe_mm"] == pytest.approx(expected, rel=1e-6)
    assert measured.result["train/images_per_second"] is None
    assert measured.checkpoint is None
    assert not (measured.run_dir / "checkpoints").exists()
    assert worker.reports[0][1] is None


def test_checkpoint_of_another_architecture_is_refused(body, tiny_data, make_config, whole_run):
    result, _, _ = whole_run
    config = make_config(
        "other", run__resume_checkpoint=str(result.checkpoint), model__hidden_feat_dim=(16, 4)
    )
    with pytest.raises(CheckpointError, match=r"model\.hidden_feat_dim is \[16, 8\] there"):
        fit(config, LocalWorker("cpu"), tiny_data(), body=body)
    with pytest.raises(CheckpointError, match=r"model\.hidden_feat_dim"):
        fit(
            make_config("other", model__hidden_feat_dim=(16, 4)),
            LocalWorker("cpu", checkpoint=result.checkpoint),
            tiny_data(),
            body=body,
        )


def test_not_finite_loss_stops_with_step_and_terms(body, tiny_data, make_config):
    def spoil(batch, epoch, index):
        if index == 1:
            batch.keypoints_2d[0, :, 0] = float("inf")
        return batch

    config = make_config(optim__max_nonfinite_steps=0)
    expected = r"step 2 is not finite.*keypoints_2d inf.*max_nonfinite_steps allows 0.*optim\.lr"
    with pytest.raises(TrainingError, match=expected):
        fit(config, LocalWorker("cpu"), tiny_data(spoil=spoil), body=body)
    assert not (_folder(config) / "checkpoints").exists()


def test_nothing_to_train_on(body, tiny_data, make_config):
    with pytest.raises(TrainingError, match=r"nothing to train on.*data\.train_yaml"):
        fit(make_config(), LocalWorker("cpu"), tiny_data(num_rows=1, batch_size=2), body=body)


def test_lost_batches_are_noticed(body, tiny_data, make_config):
    data = tiny_data()
    batches = data.train_batches
    data.train_batches = lambda epoch, start=0: iter(list(batches(epoch, start))[:-1])
    with pytest.raises(TrainingError, match="after 1 of the 2 batches"):
        fit(make_config(), LocalWorker("cpu"), data, body=body)


def test_log_file_has_metros_lines_with_the_time(whole_run):
    result, _, _ = whole_run
    text = (result.run_dir / "log.txt").read_text()
    assert "METRO INFO: Init model from scratch." in text
    last = text.splitlines()[-1].split(" ", 2)[2]
    assert last == "The experiment completed successfully. Finalizing run..."
    assert not logging.getLogger("METRO").handlers, "handlers are taken away again"
