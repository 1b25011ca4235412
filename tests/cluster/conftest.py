"""Small data sets with bad rows and a cluster for each test module."""

import pytest
from small_rows import write_rows

from metro_ray.config.load import load_config

NUM_TRAIN, NUM_VAL = 53, 23
BROKEN = (7, 31)


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
