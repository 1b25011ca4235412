"""The ledger of rows: each counts once, whatever number of ranks, their pace, and who is killed."""

import json
import signal
from pathlib import Path

import pytest
import yaml
from small_rows import write_rows

from metro_ray.cluster import train
from metro_ray.cluster.train import run_train
from metro_ray.data.convert import convert
from metro_ray.data.dataset import open_dataset
from metro_ray.data.plan import decode_entry
from metro_ray.errors import TrainingError
from metro_ray.training.data_source import LocalDataSource, train_plan

from .ranks import SPEC, Ranks, counted_rows

NUM_TRAIN, NUM_VAL = 53, 47
"""Neither is a multiple of any number of ranks or of a global batch."""
WHOLE = list(range(NUM_TRAIN))


@pytest.fixture(scope="module")
def tsv(tmp_path_factory):
    """YAML of a training and of a validation set."""
    folder = tmp_path_factory.mktemp("ledger")
    return {
        "train": write_rows(folder, "train", NUM_TRAIN),
        "val": write_rows(folder, "val", NUM_VAL),
    }


@pytest.fixture(scope="module", params=["tsv", "parquet"])
def stored(request, tsv):
    """The two data sets in one format."""
    if request.param == "tsv":
        return tsv
    paths = {split: path.with_suffix(".parquet") for split, path in tsv.items()}
    for split, path in paths.items():
        if not path.exists():
            convert(open_dataset(tsv[split]), path)
    return paths


@pytest.fixture
def ledger_config(make_config, stored):
    names = {f"data.{split}_yaml": str(path) for split, path in stored.items()}
    return lambda **changes: make_config(**{**names, **changes})


@pytest.mark.ray
@pytest.mark.parametrize(("world_size", "slow"), [(1, None), (2, None), (3, 2)])
def test_every_row_once_in_training_and_validation(ray_cluster, ledger_config, world_size, slow):
    with Ranks(ledger_config(), ray_cluster, world_size, slow) as ranks:
        trained = ranks.run(lambda source: source.train_batches(1))
        assert counted_rows(trained) == WHOLE
        assert len({len(batches) for batches in trained}) == 1
        validated = ranks.run(lambda source: source.eval_batches())
        assert counted_rows(validated) == list(range(NUM_VAL))


@pytest.mark.ray
def test_an_epoch_goes_on_with_another_number_of_ranks(ray_cluster, ledger_config):
    """Two ranks for three batches each, then three ranks for one, then one rank to the end."""
    config, seen, start_row = ledger_config(), [], 0
    for world_size, steps in ((2, 3), (3, 1), (1, None)):
        with Ranks(config, ray_cluster, world_size) as ranks:
            results = ranks.run(
                lambda source, row=start_row: source.train_batches(2, row), stop_after=steps
            )
        seen += counted_rows(results)
        start_row += sum(len(batches) for batches in results) * 4
    assert sorted(seen) == WHOLE


@pytest.mark.ray
def test_a_mixture_gives_each_source_its_share(ray_cluster, make_config, stored, tmp_path):
    """Rows that come twice included."""
    sources = [
        {"name": "large", "data": str(stored["train"]), "weight": 1},
        {"name": "small", "data": str(stored["val"]), "weight": 3},
    ]
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump({"mixture": sources, "rows_per_epoch": 90}))
    config = make_config(**{"data.train_yaml": str(path), "data.val_yaml": None})
    with Ranks(config, ray_cluster, 2) as ranks:
        results = ranks.run(lambda source: source.train_batches(0))
    order = train_plan(config, open_dataset(path), 1, 0, 0).order().tolist()
    assert counted_rows(results) == sorted(
        decode_entry(entry, NUM_TRAIN + NUM_VAL).row_id for entry in order
    )
    taken = [int(source) for batches in results for b in batches for source in b.source[b.valid]]
    assert [taken.count(source) for source in (0, 1)] == [23, 67]


def global_order(config, world_size):
    """Keys of an epoch in its order, put together from what the ranks get."""
    sources = [
        LocalDataSource(config, SPEC, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    batches = zip(*(source.train_batches(1) for source in sources), strict=True)
    return [
        key
        for step in batches
        for batch in step
        for key, valid in zip(batch.keys, batch.valid.tolist(), strict=True)
        if valid
    ]


def test_the_order_is_that_of_seed_and_epoch_at_any_number_of_files_and_ranks(
    make_config, tsv, stored, tmp_path
):
    """One file, a composite of three with the same rows in the same places, and Parquet."""
    open_rows = open_dataset(tsv["train"])
    lines, files = [], {"img": [], "label": [], "hw": []}
    for part, rows in enumerate((range(0, 10), range(10, 40), range(40, NUM_TRAIN))):
        write_rows(tmp_path, f"part{part}", len(rows), first=rows.start)
        for kind, names in files.items():
            names.append(f"part{part}.{kind}.tsv")
        lines += [f"{part}\t{row}" for row in range(len(rows))]
    (tmp_path / "all.linelist.tsv").write_text("\n".join(lines) + "\n")
    composite = tmp_path / "all.yaml"
    composite.write_text(
        yaml.safe_dump({"composite": True, "linelist": "all.linelist.tsv", **files})
    )
    orders = [
        global_order(make_config(**{"data.train_yaml": str(path)}), world_size)
        for path in (stored["train"], composite)
        for world_size in (1, 2, 3)
    ]
    assert sorted(orders[0]) == sorted(open_rows.key(row) for row in WHOLE)
    assert orders[0] != sorted(orders[0])
    assert all(order == orders[0] for order in orders[1:])


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
    assert summary.result["val/num_rows"] == NUM_VAL

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
    assert summary.result["val/num_rows"] == NUM_VAL
    notes = [
        json.loads(line)
        for path in sorted(Path(tmp_path / "ledger").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for epoch in (0, 1):
        rows = [row for note in notes if note["epoch"] == epoch for row in note["rows"]]
        assert sorted(rows) == WHOLE


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("stored", ["tsv"], indirect=True)
def test_evaluation_measures_the_same_at_one_two_and_three_ranks(
    ray_cluster, ledger_config, tmp_path
):
    measured = []
    for world_size in (1, 2, 3):
        changes = {"eval.only": True, "scaling.train_workers": world_size}
        config = ledger_config(**changes, **{"run.output_dir": str(tmp_path / str(world_size))})
        measured.append(run_train(config).result)
    assert [result["val/num_rows"] for result in measured] == [NUM_VAL] * 3
    for name in ("val/mpjpe_mm", "val/pa_mpjpe_mm", "val/mpve_mm"):
        values = [result[name] for result in measured]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)
