"""Whole runs on a GPU: without Ray, over NCCL, and as a rank of a Ray cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_rows import write_rows
from torch.nn.parallel import DistributedDataParallel

from metro_ray.config.load import load_config
from metro_ray.errors import RunStopped
from metro_ray.training.context import LocalWorker, broadcast_buffers
from metro_ray.training.loop import fit

WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
sys.path.insert(0, {tests!r})
from training.conftest import TinyBackbone, TinyBody, TinyData, small_config
from metro_ray.models.backbones import BACKBONES
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit
BACKBONES["tiny"] = TinyBackbone
config = small_config({folder!r}, run__device="cuda", optim__precision="bf16")
body = TinyBody()
done = fit(config, LocalWorker("cuda"), TinyData(body), body=body)
assert next(body.buffers()).is_cuda
"""


class NcclWorker(LocalWorker):
    """The only rank of a process group."""

    def wrap(self, model):
        model = model.to(self.device)
        return DistributedDataParallel(
            model, device_ids=[self.device], gradient_as_bucket_view=True
        )

    def gather(self, value):
        values = [None]
        dist.all_gather_object(values, value)
        return values


@pytest.fixture
def nccl(tmp_path, device):
    torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def result_of(folder):
    return json.loads((Path(folder) / "result.json").read_text())


def test_the_trainer_runs_without_ray(tmp_path, device):
    code = WITHOUT_RAY.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "run")
    assert result["hardware"]["gpu"] == torch.cuda.get_device_name(device)
    assert result["epochs"] == 2
    assert result["train/max_memory_mib"] > 0


def test_a_rank_over_nccl_trains_as_one_alone(body, tiny_data, make_config, nccl):
    losses = []
    for name, worker in (("alone", LocalWorker("cuda")), ("nccl", NcclWorker("cuda"))):
        done = fit(make_config(name, optim__epochs=1), worker, tiny_data(), body=body)
        losses.append(done.result["val/mpjpe_mm"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_sums_and_buffers_go_over_nccl(nccl, device):
    sums = torch.arange(4.0, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    assert sums.tolist() == [0.0, 1.0, 2.0, 3.0]
    norm = torch.nn.BatchNorm2d(3).to(device)
    broadcast_buffers(norm)
    assert norm.running_var.tolist() == [1.0, 1.0, 1.0]


def test_a_run_goes_on_with_its_optimizer_on_the_gpu(body, tiny_data, make_config, device):
    whole = fit(make_config("whole"), LocalWorker(device), tiny_data(), body=body)
    worker, config = LocalWorker(device), make_config("parts")

    def ask(batch, epoch, index):
        worker.stop = (epoch, index) == (1, 0)
        return batch

    with pytest.raises(RunStopped):
        fit(config, worker, tiny_data(spoil=ask), body=body)
    last = Path(config.run.output_dir) / "checkpoints" / "last"
    done = fit(config, LocalWorker(device, checkpoint=last), tiny_data(), body=body)
    assert (done.result["steps"], done.result["epochs"]) == (4, 2)
    assert [start["device"] for start in done.result["starts"]] == ["cuda", "cuda"]
    assert done.result["val/mpjpe_mm"] == pytest.approx(whole.result["val/mpjpe_mm"], rel=1e-2)


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_rank_takes_the_gpu_nccl_and_pinned_batches(tmp_path, device, monkeypatch):
    from metro_ray.cluster.train import run_train

    monkeypatch.chdir(tmp_path)
    settings = {
        "model.mesh": "anny_body",
        "model.arch": "hrnet-w18-small",
        "model.num_hidden_layers": 1,
        "model.num_attention_heads": 1,
        "model.input_feat_dim": [2051, 16],
        "model.hidden_feat_dim": [16, 8],
        "data.train_yaml": str(write_rows(tmp_path, "train", 16)),
        "data.val_yaml": str(write_rows(tmp_path, "val", 6)),
        "data.loader_workers": 2,
        "optim.epochs": 1,
        "optim.per_gpu_batch_size": 4,
        "optim.precision": "bf16",
        "eval.gallery_images": 0,
        "run.device": "cuda",
        "scaling.train_workers": 1,
    }
    result = run_train(load_config("body", overrides=settings)).result
    assert result["hardware"]["gpu"] == torch.cuda.get_device_name(device)
    assert result["val/num_rows"] == 6
