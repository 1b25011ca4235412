"""Small data sets with bad rows and a cluster for each test module."""

import os

import pytest
from ray_head import free_ports
from small_rows import write_rows

from metro_ray.config.load import load_config
from metro_ray.data.convert import convert
from metro_ray.data.dataset import open_dataset

NUM_TRAIN, NUM_VAL = 53, 23
BROKEN = (7, 31)
LEDGER_TRAIN, LEDGER_VAL = 53, 47
"""Neither is a multiple of any number of ranks or of a global batch."""


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, "train", NUM_TRAIN, BROKEN)
    write_rows(folder, "val", NUM_VAL)
    return folder


@pytest.fixture(scope="session")
def make_config(data_folder):
    """A configuration of a tiny network on the small data sets, with changes by dotted key."""

    def make(**changes):
        tiny = {
            "model.mesh": "anny_body",
            "model.arch": "hrnet-w18-small",
            "model.num_hidden_layers": 1,
            "model.num_attention_heads": 1,
            "model.input_feat_dim": [2051, 16],
            "model.hidden_feat_dim": [16, 8],
            "data.train_yaml": str(data_folder / "train.yaml"),
            "data.val_yaml": str(data_folder / "val.yaml"),
            "data.crop": "fast",
            "data.loader_workers": 2,
            "data.block_rows": 5,
            "optim.epochs": 3,
            "optim.per_gpu_batch_size": 4,
            "eval.per_gpu_batch_size": 4,
            "eval.gallery_images": 0,
            "run.device": "cpu",
        }
        return load_config("body", overrides=tiny | changes)

    return make


@pytest.fixture(scope="module")
def ray_cluster(make_config):
    """A local cluster as `run_train` starts it; shut down after the module."""
    from metro_ray.cluster.connect import cluster

    with cluster(make_config()) as plan:
        yield plan


@pytest.fixture
def two_machines(monkeypatch):
    """A cluster of two nodes; yields it and the node that may be taken away."""
    import ray
    from ray.cluster_utils import Cluster

    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Where another cluster has Ray's usual port, Ray Train would ask that one about its actors.
    (port,) = free_ports(1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "dashboard_port": port})
    other = cluster.add_node(num_cpus=3)
    ray.init(address=cluster.address, logging_level="ERROR")
    try:
        yield cluster, other
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def tsv(tmp_path_factory):
    """YAML of a training and of a validation set."""
    folder = tmp_path_factory.mktemp("ledger")
    return {
        "train": write_rows(folder, "train", LEDGER_TRAIN),
        "val": write_rows(folder, "val", LEDGER_VAL),
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
