import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from metro_ray.training.average import WeightAverage
from metro_ray.training.builders import build_model
from metro_ray.training.checkpoint import load_checkpoint
from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit


def test_decay_rises_to_its_value_and_the_first_update_copies(body, make_config):
    torch.manual_seed(0)
    model = build_model(make_config(), body)
    average = WeightAverage(model, 0.5)
    expected, norms = None, "backbone.2.running_mean"
    for update in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
            model.get_buffer(norms).normal_()
            model.get_buffer("backbone.2.num_batches_tracked").add_(1)
        average.update(model)
        decay = 0.0 if update == 0 else min(0.5, (1 + update) / (10 + update))
        now = {key: model.state_dict()[key] for key in ("camera.output.weight", norms)}
        before = expected or now
        expected = {key: decay * before[key] + (1 - decay) * now[key] for key in now}
        for key, value in expected.items():
            assert_close(average.model.state_dict()[key], value)
    assert average.updates == 12
    assert int(average.model.get_buffer("backbone.2.num_batches_tracked")) == 12
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters()), "the trained one is not touched"


@pytest.fixture
def averaged_run(body, tiny_data, make_config):
    """A run with an average that stays far behind, and its configuration."""
    config = make_config(optim__ema_decay=0.99, optim__lr=1e-2)
    return fit(config, LocalWorker("cpu"), tiny_data(), body=body), config


def test_a_checkpoint_holds_both_and_predicts_with_the_average(averaged_run, body):
    result, _ = averaged_run
    averaged = load_file(result.checkpoint / "model.safetensors")
    trained = load_file(result.checkpoint / "trained.safetensors")
    key = "camera.output.weight"
    assert averaged.keys() == trained.keys()
    assert not torch.equal(averaged[key], trained[key])
    model = build_model(averaged_run[1], body)
    load_checkpoint(result.checkpoint, model)
    assert torch.equal(model.state_dict()[key], averaged[key])


def test_what_is_validated_is_the_average(averaged_run, body, tiny_data, make_config):
    """The checkpoint's number is that of its model.safetensors, and not of what was trained."""
    result, _ = averaged_run
    measured = {}
    for name in ("model", "trained"):
        config = make_config(
            name,
            eval__only=True,
            run__resume_checkpoint=str(result.checkpoint / f"{name}.safetensors"),
        )
        measured[name] = fit(config, LocalWorker("cpu"), tiny_data(), body=body).metrics
    of_run = result.result["val/mpve_mm"]
    assert measured["model"]["val/mpve_mm"] == pytest.approx(of_run, rel=1e-5)
    assert measured["trained"]["val/mpve_mm"] != pytest.approx(of_run, rel=1e-3)
