"""One of two ranks of a run under DistributedDataParallel, without Ray; see test_ranks.py."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from conftest import TinyBackbone, TinyBody, TinyData, small_config
from torch.nn.parallel import DistributedDataParallel

from metro_ray.models.backbones import BACKBONES
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit


class DdpWorker(LocalWorker):
    rank = property(lambda self: dist.get_rank())
    world_size = property(lambda self: dist.get_world_size())

    def wrap(self, model):
        return DistributedDataParallel(model, forward_sync_buffers=False)

    def all_reduce_sums(self, values):
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def gather(self, value):
        values = [None, None]
        dist.all_gather_object(values, value)
        return values


class Share(TinyData):
    """Every second batch of an epoch, and every second validation row."""

    def num_train_batches(self, start_row=0):
        return (8 - start_row) // 4

    def train_batches(self, epoch, start_row=0):
        whole = TinyData(self._body, num_rows=8)
        return iter(list(whole.train_batches(epoch))[dist.get_rank() :: 2][start_row // 4 :])

    def eval_batches(self):
        for batch in super().eval_batches():
            rows = slice(dist.get_rank(), None, 2)
            tensors = {n: getattr(batch, n)[rows] for n in batch._fields if n != "keys"}
            yield batch._replace(**tensors, keys=batch.keys[rows])


def main(folder, rank):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    BACKBONES["tiny"] = TinyBackbone
    body = TinyBody()
    config = small_config(Path(folder) / "run", model__drop_out=0.2)
    worker = DdpWorker("cpu")
    result = fit(config, worker, Share(body, num_rows=8, num_val=5), body=body)
    seen = {
        "metrics": result.metrics,
        "reports": len(worker.reports),
        "wrote": result.result is not None,
    }
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
