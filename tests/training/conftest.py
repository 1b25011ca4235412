"""A body model and data small enough to train on in a test."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from metro_ray.bodies.body import BodyModel, BodyOutput
from metro_ray.bodies.levels import LevelData, VertexMap
from metro_ray.bodies.spec import get_spec
from metro_ray.config.load import load_config
from metro_ray.data.sample import blank_sample, collate
from metro_ray.models.backbones import BACKBONES
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit

LEVELS = (6, 12, 24)


class TinyBackbone(nn.Sequential):
    """A few milliseconds instead of HRNet's second: 7 x 7 patches, BatchNorm as in the real ones."""

    def __init__(self):
        super().__init__(
            nn.AvgPool2d(8),
            nn.Conv2d(3, 16, 4, stride=4),
            nn.BatchNorm2d(16),
            nn.Conv2d(16, 2048, 1),
        )


@pytest.fixture(scope="session", autouse=True)
def _tiny_backbone():
    BACKBONES["tiny"] = TinyBackbone
    yield
    del BACKBONES["tiny"]


class TinyBody(BodyModel):
    """24 vertices that turn with the global orientation and grow with the first beta."""

    def __init__(self):
        rng = np.random.default_rng(0)
        spec = replace(get_spec("smpl"), vertex_levels=LEVELS)
        picks = [VertexMap(np.arange(n)[:, None], np.ones((n, 1))) for n in LEVELS[:-1]]
        grow = [
            VertexMap(np.arange(fine)[:, None] % coarse, np.ones((fine, 1)))
            for coarse, fine in pairwise(LEVELS)
        ]
        faces = np.stack([np.arange(20), np.arange(20) + 1, np.arange(20) + 2], axis=1)
        super().__init__(
            spec,
            faces=faces,
            joint_regressor=_rows_of_ones(rng, spec.num_joints, LEVELS[-1]),
            root_regressor=_rows_of_ones(rng, 1, LEVELS[-1]),
            levels=LevelData(tuple(picks), tuple(grow), tuple(faces[:2] for _ in picks)),
        )
        self._constant("rest", rng.uniform(-0.8, 0.8, (LEVELS[-1], 3)))
        self._keep_template()

    def forward(self, pose, betas):
        import roma

        turn = roma.rotvec_to_rotmat(pose[:, :3])
        vertices = (1 + 0.1 * betas[:, :1, None]) * self.rest @ turn.transpose(1, 2)
        return BodyOutput(vertices, vertices[:, :24])


def _rows_of_ones(rng, rows, columns):
    weights = rng.uniform(0.0, 1.0, (rows, columns))
    return weights / weights.sum(axis=1, keepdims=True)


class TinyData:
    """Rows whose picture tells their pose; a DataSource without files.

    Args:
        spoil: Changes a batch, given its epoch and number; may raise.
    """

    def __init__(self, body, num_rows=4, batch_size=2, num_val=3, spoil=None):
        self._body = body
        self._rows = [_row(body, i) for i in range(max(num_rows, num_val))]
        self._num_rows, self._batch_size, self._num_val = num_rows, batch_size, num_val
        self._spoil = spoil or (lambda batch, epoch, index: batch)
        self.asked = []

    source_names = ("tiny",)

    @property
    def train_rows(self):
        return f"{self._num_rows} rows"

    def describe(self):
        return [f"train: {self._num_rows} tiny rows"]

    def num_train_batches(self, start_row=0):
        return (self._num_rows - start_row) // self._batch_size

    def train_batches(self, epoch, start_row=0):
        self.asked.append((epoch, start_row))
        order = np.random.default_rng(epoch).permutation(self._num_rows)
        for index in range(start_row // self._batch_size, self.num_train_batches()):
            rows = order[index * self._batch_size : (index + 1) * self._batch_size]
            yield self._spoil(collate([self._rows[row] for row in rows]), epoch, index)

    def eval_batches(self):
        if self._num_val:
            yield collate(self._rows[: self._num_val], [f"row{i}" for i in range(self._num_val)])

    def bad_rows(self):
        row = {"split": "train", "row": 9, "key": "broken.jpg", "reason": "cut"}
        return {"count": 1, "rows": [row]}


def _row(body, number):
    rng = np.random.default_rng(100 + number)
    pose = np.zeros(72, np.float32)
    pose[:3] = rng.uniform(-1.5, 1.5, 3)
    betas = rng.uniform(-1, 1, 10).astype(np.float32)
    with torch.no_grad():
        posed = body(torch.from_numpy(pose)[None], torch.from_numpy(betas)[None])
    joints = body.joints_from_mesh(posed.vertices)[0] - body.root_from_mesh(posed.vertices)[0]
    labels = np.zeros((24, 4), np.float32)
    labels[list(body.spec.label_to_joints), :3] = joints.numpy()
    labels[:, 3] = 1
    keypoints = np.concatenate([0.9 * labels[:, :2], labels[:, 3:]], axis=1).astype(np.float32)
    squares = rng.integers(0, 256, (3, 7, 7)).repeat(32, axis=1).repeat(32, axis=2)
    return blank_sample(body.spec, number)._replace(
        image=squares.astype(np.uint8),
        keypoints_2d=keypoints,
        joints_3d=labels,
        pose=pose,
        betas=betas,
        has_mesh=np.bool_(True),
        has_joints_3d=np.bool_(True),
        has_keypoints_2d=np.bool_(True),
        valid=np.bool_(True),
    )


@pytest.fixture(scope="session")
def body():
    return TinyBody()


@pytest.fixture
def tiny_data(body):
    """Makes a data source; see TinyData."""
    return lambda **settings: TinyData(body, **settings)


def small_config(output_dir, **overrides):
    """A small training configuration; keywords are dotted keys with two underscores for the dot."""
    settings = {
        "model.arch": "tiny",
        "model.input_feat_dim": (2051, 32),
        "model.hidden_feat_dim": (16, 8),
        "model.num_hidden_layers": 1,
        "model.num_attention_heads": 2,
        "optim.epochs": 2,
        "optim.per_gpu_batch_size": 2,
        "optim.channels_last": False,
        "run.output_dir": str(output_dir),
        "run.log_every": 1,
        "run.device": "cpu",
    }
    settings.update({key.replace("__", "."): value for key, value in overrides.items()})
    return load_config("body", overrides=settings)


@pytest.fixture
def make_config(tmp_path):
    """Makes a configuration that writes into a folder of this test; see `small_config`."""
    return lambda folder="run", **overrides: small_config(tmp_path / folder, **overrides)


@pytest.fixture(scope="module")
def whole_run(body, tmp_path_factory):
    """A finished run of 2 epochs with 2 steps each: its result, worker and configuration."""
    config = small_config(tmp_path_factory.mktemp("runs") / "whole")
    worker = LocalWorker("cpu")
    return fit(config, worker, TinyData(body), body=body, mesh_reason="asked for"), worker, config
