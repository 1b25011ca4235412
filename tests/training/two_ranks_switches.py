"""One of two ranks whose batches are broken on one rank only; see test_ranks.py."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from conftest import TinyBackbone, TinyBody, small_config
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from two_ranks import DdpWorker, Share

from metro_ray.models.backbones import BACKBONES
from metro_ray.training.loop import fit
from metro_ray.training.step import TrainStep


class CountingWorker(DdpWorker):
    """Counts the exchanges of gradients."""

    exchanges = 0

    def wrap(self, model):
        wrapped = super().wrap(model)

        def count(state, bucket):
            self.exchanges += bucket.is_last()
            return allreduce_hook(None, bucket)

        wrapped.register_comm_hook(None, count)
        return wrapped

    def gather(self, value):
        values = [None, None]
        dist.all_gather_object(values, value)
        return values


class Broken(Share):
    """The second batch of the second epoch is broken on rank 1."""

    def train_batches(self, *position):
        for number, batch in enumerate(super().train_batches(*position)):
            if (position[0], number, dist.get_rank()) == (1, 1, 1):
                batch.keypoints_2d[0] = float("nan")
            yield batch._replace(keys=tuple(f"image{int(row)}.jpg" for row in batch.row_id))


def main(folder, rank, accumulate_steps):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    BACKBONES["tiny"] = TinyBackbone
    body, worker, applied, weights = TinyBody(), CountingWorker("cpu"), [], []
    run = TrainStep.run

    def look(step, window, **settings):
        losses = run(step, window, **settings)
        applied.append(losses.applied)
        weights.append(float(sum(p.detach().double().sum() for p in step.model.parameters())))
        return losses

    TrainStep.run = look
    config = small_config(Path(folder) / "run", optim__accumulate_steps=accumulate_steps)
    fit(config, worker, Broken(body, num_rows=8, num_val=5), body=body)
    seen = {"applied": applied, "weights": weights, "exchanges": worker.exchanges}
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
