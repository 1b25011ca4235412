"""The ledger of rows where ranks and read tasks are killed: each row counts once all the same."""

import json
import signal
from pathlib import Path

import pytest

from metro_ray.cluster import train
from metro_ray.cluster.train import run_train
from metro_ray.errors import TrainingError

from .conftest import LEDGER_TRAIN, LEDGER_VAL

WHOLE = list(range(LEDGER_TRAIN))


def noting(victim, die_at):
    """A `train_rank` that notes the rows of every step; `victim` is killed before step `die_at`."""

    def train_rank(settings):
        import os
        from pathlib import Path

        from metro_ray.cluster.train import train_rank
        from metro_ray.training.trainer import Trainer

        folder = Path(settings["config"]["run"]["output_dir"]).parent / "ledger"
        folder.mkdir(exist_ok=True)
        died = folder / "died"
        attempt = int(died.exists())
        one_step = Trainer._one_step

        def noted(self, window, started):
            rank = self._worker.rank
            if attempt == 0 and rank == victim and self.state.position.step + 1 == die_at:
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            one_step(self, window, started)
            rows = [int(row) for batch in window for row in batch.row_id[batch.valid]]
            at = self.state.position
            note = {"attempt": attempt, "epoch": at.epoch, "step": at.step, "rows": rows}
            with (folder / f"{attempt}-{rank}.jsonl").open("a") as file:
                file.write(json.dumps(note) + "\n")

        Trainer._one_step = noted
        return train_rank(settings)

    return train_rank


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "before", "after", "victim"),
    [("tsv", 2, 2, 1), ("tsv", 2, 3, 0), ("tsv", 3, 2, 2), ("parquet", 2, 2, 1)],
    indirect=["stored"],
)
def test_a_killed_rank_costs_no_row_and_repeats_none(
    ray_cluster, ledger_config, tmp_path, monkeypatch, before, after, victim
):
    """The steps that the model is made of: those up to the checkpoint, then those after it."""
    settings = {
        "run.output_dir": str(tmp_path / "run"),
        "run.checkpoint_every": 2,
        "optim.epochs": 2,
        "optim.per_gpu_batch_size": 3,
        "eval.per_gpu_batch_size": 3,
    }
    monkeypatch.setattr(train, "train_rank", noting(victim, die_at=6))
    if before == after:
        summary = run_train(ledger_config(**settings, **{"scaling.train_workers": before}))
    else:
        fatal = {"run.max_failures": 0, "scaling.train_workers": before}
        with pytest.raises(TrainingError, match="failed with"):
            run_train(ledger_config(**settings, **fatal))
        again = {"run.resume": True, "scaling.train_workers": after}
        summary = run_train(ledger_config(**settings, **again))
    assert summary.result["world_size"] == after
    assert summary.result["val/num_rows"] == LEDGER_VAL

    [line] = [
        line
        for line in (tmp_path / "run" / "log.txt").read_text().splitlines()
        if "Continuing from" in line
    ]
    assert line.endswith(f"epoch 0, row {4 * 3 * before}, step 4")
    notes = [
        json.loads(line)
        for path in sorted(Path(tmp_path / "ledger").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    lost = [note for note in notes if note["attempt"] == 0 and note["step"] > 4]
    assert lost, "steps behind the checkpoint were made and lost"
    kept = [note for note in notes if note not in lost]
    for epoch in (0, 1):
        rows = [row for note in kept if note["epoch"] == epoch for row in note["rows"]]
        assert sorted(rows) == WHOLE


def dying_read_task(marker, block):
    """A `train_rank` in which the task that reads this block of epoch 1 is killed, once.

    Args:
        marker: File that holds the process that was killed.
        block: Number of a block of one task, counted from 0; earlier ones are in the object store.
    """
    counting = noting(victim=None, die_at=0)

    def train_rank(settings):
        import hashlib
        import os
        import pickle
        from pathlib import Path

        import ray
        from ray import cloudpickle

        from metro_ray.cluster import blocks, data

        class Deadly:
            def __init__(self, content):
                self.content, self.reader, self.task, self.blocks = content, None, None, 0

            def block(self, entries, epoch):
                self.reader = self.reader or pickle.loads(self.content)
                task = ray.get_runtime_context().get_task_id()
                self.blocks = self.blocks + 1 if task == self.task else 0
                self.task = task
                made = self.reader.block(entries, epoch)
                if epoch == 1 and self.blocks == block and not Path(marker).exists():
                    Path(marker).write_text(str(os.getpid()))
                    os.kill(os.getpid(), 9)
                return made

        def store(reader):
            content = cloudpickle.dumps(Deadly(pickle.dumps(reader)))
            name = hashlib.sha256(content).hexdigest()
            return blocks.StoredReader(ray.put(content), name, reader.row_bytes())

        data.store_reader = store
        return counting(settings)

    return train_rank


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("stored", ["tsv"], indirect=True)
@pytest.mark.parametrize("block", [0, 1])
def test_a_killed_read_task_costs_no_row_and_does_not_stop_the_run(
    ray_cluster, ledger_config, tmp_path, monkeypatch, block
):
    """In the middle of the second epoch, also after a part of the task's rows has been used."""
    marker = tmp_path / "killed"
    monkeypatch.setattr(train, "train_rank", dying_read_task(str(marker), block))
    settings = {
        "run.output_dir": str(tmp_path / "run"),
        "run.max_failures": 0,
        "optim.epochs": 2,
        "optim.per_gpu_batch_size": 3,
        "eval.per_gpu_batch_size": 3,
        "scaling.train_workers": 2,
    }
    summary = run_train(ledger_config(**settings))
    assert not Path(f"/proc/{marker.read_text()}").exists(), "the process is gone"
    assert [start["reason"] for start in summary.result["starts"]] == ["new run"]
    assert summary.result["val/num_rows"] == LEDGER_VAL
    notes = [
        json.loads(line)
        for path in sorted(Path(tmp_path / "ledger").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for epoch in (0, 1):
        rows = [row for note in notes if note["epoch"] == epoch for row in note["rows"]]
        assert sorted(rows) == WHOLE
