"""What the sections model and optim refuse, in one sentence each."""

import pytest

from metro_ray.config.load import load_config
from metro_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optim.precision": "fp8"}, r"optim\.precision must be one of fp32, bf16, fp16"),
        ({"optim.accumulate_steps": 0}, r"optim\.accumulate_steps must be >= 1, got 0"),
        ({"optim.clip_grad_norm": 0.0}, r"optim\.clip_grad_norm must be > 0"),
        ({"optim.ema_decay": 1.0}, r"optim\.ema_decay must be within \[0, 1\)"),
        ({"optim.max_nonfinite_steps": -1}, r"optim\.max_nonfinite_steps must be >= 0"),
        ({"optim.compile": "reduce-overhead"}, r"optim\.compile must be one of none, default"),
        ({"optim.deterministic": "maybe"}, r"optim\.deterministic must be true or false"),
        ({"model.batch_norm": "synced"}, r"model\.batch_norm must be one of local, sync, frozen"),
        ({"model.recompute": "some"}, r"model\.recompute must be one of none, encoders"),
        (
            {"optim.compile": "default", "model.recompute": "encoders"},
            r"model\.recompute must be none where optim\.compile is on .*got 'encoders'",
        ),
        (
            {"model.arch": "timm/resnet50", "model.recompute": "all"},
            r"model\.recompute must be none or encoders for timm backbones, got 'all'",
        ),
        (
            {"model.arch": "timm/resnet50", "model.backbone_init": "shortcut"},
            r"model\.backbone_init must be random for timm backbones",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_config("body", overrides=settings)
    assert len(str(caught.value).splitlines()) == 1


def test_metro_is_the_default():
    config = load_config("body")
    optim, model = config.optim, config.model
    assert (optim.precision, optim.tf32, optim.compile) == ("fp32", False, "none")
    assert (optim.accumulate_steps, optim.clip_grad_norm, optim.ema_decay) == (1, None, None)
    assert (model.batch_norm, model.recompute) == ("local", "none")
