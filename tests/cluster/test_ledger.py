"""The ledger of rows: each counts once, whatever number of ranks and their pace."""

import pytest
import yaml
from small_rows import write_rows

from metro_ray.cluster.train import run_train
from metro_ray.data.dataset import open_dataset
from metro_ray.data.plan import decode_entry
from metro_ray.training.data_source import LocalDataSource, train_plan

from .conftest import LEDGER_TRAIN, LEDGER_VAL
from .ranks import SPEC, Ranks, counted_rows

WHOLE = list(range(LEDGER_TRAIN))


@pytest.mark.ray
@pytest.mark.parametrize(("world_size", "slow"), [(1, None), (2, None), (3, 2)])
def test_every_row_once_in_training_and_validation(ray_cluster, ledger_config, world_size, slow):
    with Ranks(ledger_config(), ray_cluster, world_size, slow) as ranks:
        trained = ranks.run(lambda source: source.train_batches(1))
        assert counted_rows(trained) == WHOLE
        assert len({len(batches) for batches in trained}) == 1
        validated = ranks.run(lambda source: source.eval_batches())
        assert counted_rows(validated) == list(range(LEDGER_VAL))


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
        decode_entry(entry, LEDGER_TRAIN + LEDGER_VAL).row_id for entry in order
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
    for part, rows in enumerate((range(0, 10), range(10, 40), range(40, LEDGER_TRAIN))):
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
    assert [result["val/num_rows"] for result in measured] == [LEDGER_VAL] * 3
    for name in ("val/mpjpe_mm", "val/pa_mpjpe_mm", "val/mpve_mm"):
        values = [result[name] for result in measured]
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)
