"""Small checkpoints to serve, images to send, and an engine that can be held up."""

import asyncio
import threading
from dataclasses import asdict

import cv2
import torch

from metro_ray.bodies import load_body
from metro_ray.config.load import load_config
from metro_ray.serve.settings import read_args
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import save_checkpoint
from metro_ray.training.checkpoint_meta import CheckpointMeta

TINY = {
    "model.arch": "hrnet-w18-small",
    "model.num_hidden_layers": 1,
    "model.num_attention_heads": 1,
    "model.input_feat_dim": [2051, 16],
    "model.hidden_feat_dim": [16, 8],
    "model.output_init": "template",
    "model.upsampling_init": "topology",
}


def write_checkpoint(root, task, seed, step):
    """A network that predicts its template, a little moved by the image, seen by a camera of scale 0.9."""
    mesh = f"anny_{task}"
    config = load_config(task, overrides=TINY | {"model.mesh": mesh})
    torch.manual_seed(seed)
    model = build_model(config, load_body(mesh))
    with torch.no_grad():
        model.cascade.encoders[-1].projection.weight.normal_(std=0.002)
        for layer in (model.camera.per_token, model.camera.over_tokens, model.camera.output):
            layer.weight.mul_(0.1)
        model.camera.output.bias.copy_(torch.tensor([0.9, 0.02 * seed, 0.0]))
    optimizer = torch.optim.Adam(model.parameters())
    meta = CheckpointMeta(config=asdict(config), mesh=mesh, epoch=1, step=step)
    folder, _ = save_checkpoint(root, model, optimizer, meta, metric=("loss", 1.0 / step), keep=9)
    (folder / "optimizer.pt").unlink()  # serving does not need it
    return folder


def encoded(image, kind="jpg"):
    done, data = cv2.imencode(f".{kind}", image[:, :, ::-1])
    assert done
    return data.tobytes()


def local_args(**given):
    """Settings of a service; `body` and `hand` are checkpoints."""
    models = {task: given.pop(task) for task in ("body", "hand") if task in given}
    filled = {
        task: {"checkpoint": str(model), "precision": "fp32"} for task, model in models.items()
    }
    return read_args(filled | given)


class Blocked:
    """An engine that answers like another one, once it is let go."""

    def __init__(self, engine):
        self._engine = engine
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.cancelled = threading.Event()

    async def predict(self, ask):
        self.asked.release()
        try:
            while not self.let_go.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await self._engine.predict(ask)

    async def status(self):
        return await self._engine.status()

    async def mesh(self):
        return await self._engine.mesh()
