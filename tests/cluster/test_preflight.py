"""What is refused before a cluster is started."""

import pytest

from metro_ray.cluster.preflight import check_run
from metro_ray.config.load import load_config
from metro_ray.errors import ConfigError


def settings(tmp_path, **more):
    return {
        "data.train_yaml": str(tmp_path / "train.yaml"),
        "run.output_dir": str(tmp_path / "run"),
        **more,
    }


def test_a_start_from_the_grid_is_refused_for_a_mesh_that_averages_it(tmp_path):
    overrides = settings(tmp_path, **{"model.mesh": "anny_hand", "model.grid_init": "template"})
    with pytest.raises(ConfigError, match=r"grid_init template is for bodies: anny_hand averages"):
        check_run(load_config("hand", overrides=overrides))


def test_frozen_batch_norm_without_weights_is_refused(tmp_path):
    overrides = settings(tmp_path, **{"model.batch_norm": "frozen"})
    with pytest.raises(ConfigError, match=r"batch_norm frozen.*give model\.backbone_weights"):
        check_run(load_config("body", overrides=overrides))
