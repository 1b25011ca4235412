"""Versions come and go while requests run: swap, roll back, share, follow, refuse."""

import asyncio
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from metro_ray.errors import CheckpointError
from metro_ray.inference import Predictor
from metro_ray.models.optimise import optimised
from metro_ray.serve.engine import Ask, TooLate, VersionNotServed
from metro_ray.serve.local import LocalEngine
from metro_ray.serve.network import ServedNetwork, batch_sizes
from metro_ray.serve.settings import ModelChoice, ModelSettings
from metro_ray.serve.sources import version_of
from metro_ray.training.checkpoint import load_predictor_parts

CROP = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224), np.uint8)


def ask(**changes):
    return Ask(**{"crops": CROP, "within_s": 60.0, "draw": 0.5} | changes)


def choice(checkpoint, **more):
    return ModelChoice(checkpoint=str(checkpoint), **more)


@pytest.fixture
def engine(body_checkpoint):
    engine = LocalEngine("body", ModelSettings(checkpoint=str(body_checkpoint), precision="fp32"))
    yield engine
    engine.close()


def versions(status):
    return [served.card.version for served in status.served]


def test_swapping_and_going_back(engine, body_checkpoint, other_body_checkpoint, monkeypatch):
    async def main():
        assert versions(await engine.status()) == []
        await engine.start()
        first = await engine.predict(ask())
        assert first.card.version == version_of(body_checkpoint)
        await engine.change(choice(other_body_checkpoint))
        second = await engine.predict(ask())
        assert second.card.version == version_of(other_body_checkpoint)
        assert np.abs(second.arrays.vertices - first.arrays.vertices).max() > 1e-4
        monkeypatch.setattr("metro_ray.serve.host.ServedNetwork", None)  # nothing is loaded again
        await engine.change(choice(body_checkpoint))
        again = await engine.predict(ask())
        np.testing.assert_array_equal(again.arrays.vertices, first.arrays.vertices)

    asyncio.run(main())


def test_the_thread_that_loaded_weights_ends(engine):
    """Its OpenMP threads would slow down those of the thread that answers."""

    async def main():
        await engine.start()
        await engine.predict(ask())

    asyncio.run(main())
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("loading") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert any(thread.name.startswith("network") for thread in threading.enumerate())


def test_requests_that_run_during_a_swap_are_answered(engine, other_body_checkpoint):
    async def main():
        await engine.start()
        done = False
        seen = []

        async def load():
            while not done:
                seen.append((await engine.predict(ask(vertices=False))).card.version)

        workers = [asyncio.create_task(load()) for _ in range(3)]
        await engine.change(choice(other_body_checkpoint))
        await engine.predict(ask())
        done = True
        await asyncio.gather(*workers)
        assert set(seen) <= {*versions(await engine.status()), seen[0]}
        assert seen[-1] == version_of(other_body_checkpoint)

    asyncio.run(main())


def test_two_versions_share_requests_by_draw(engine, body_checkpoint, other_body_checkpoint):
    async def main():
        await engine.start()
        shared = choice(body_checkpoint, candidate=str(other_body_checkpoint), candidate_share=0.25)
        await engine.change(shared)
        first, second = versions(await engine.status())
        assert [served.traffic for served in (await engine.status()).served] == [0.75, 0.25]
        assert (await engine.predict(ask(draw=0.24))).card.version == second
        assert (await engine.predict(ask(draw=0.26))).card.version == first
        assert (await engine.predict(ask(draw=0.9, version=second))).card.version == second
        with pytest.raises(VersionNotServed, match=first):
            await engine.predict(ask(version="other"))

    asyncio.run(main())


def test_weights_that_cannot_be_loaded_leave_the_service_as_it_is(
    engine, hand_checkpoint, tmp_path, caplog
):
    async def main():
        await engine.start()
        before = versions(await engine.status())
        for bad in (tmp_path / "nothing", hand_checkpoint):
            await engine.change(choice(bad))
            status = await engine.status()
            assert versions(status) == before
            assert str(bad) in status.problem
        assert "cannot serve body" in caplog.text

    asyncio.run(main())


def test_whatever_goes_wrong_with_new_weights_the_service_stays(
    engine, other_body_checkpoint, monkeypatch, caplog
):
    class NoMemory:
        def __init__(self, *_):
            raise RuntimeError("out of memory")

    async def main():
        await engine.start()
        before = await engine.status()
        with monkeypatch.context() as patched:
            patched.setattr("metro_ray.serve.host.ServedNetwork", NoMemory)
            await engine.change(choice(other_body_checkpoint))
        status = await engine.status()
        assert status.served == before.served
        assert status.problem == f"{other_body_checkpoint}: out of memory"
        assert "Traceback" in caplog.text
        await engine.change(choice(other_body_checkpoint))
        assert (await engine.status()).problem is None

    asyncio.run(main())


def test_following_goes_on_after_a_failure(engine, body_checkpoint, monkeypatch):
    async def main():
        await engine.start()
        with monkeypatch.context() as patched:
            patched.setattr("metro_ray.serve.host.find_checkpoint", {}.__getitem__)  # KeyError
            await engine.change(choice(body_checkpoint, follow_s=1.0))
            await until(lambda status: status.problem is not None)
        await until(lambda status: status.problem is None)

    async def until(seen):
        end = time.monotonic() + 20
        while not seen(await engine.status()):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    asyncio.run(main())


def test_the_first_weights_must_load(tmp_path):
    engine = LocalEngine("body", ModelSettings(checkpoint=str(tmp_path)))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        asyncio.run(engine.start())
    engine.close()


@pytest.mark.slow
def test_a_run_is_followed(body_checkpoint, other_body_checkpoint, tmp_path):
    run = tmp_path / "checkpoints"
    shutil.copytree(body_checkpoint, run / "checkpoint-1-10")
    (run / "best").symlink_to("checkpoint-1-10")
    engine = LocalEngine("body", ModelSettings(checkpoint=str(tmp_path), follow_s=1.0))

    async def main():
        await engine.start()
        shutil.copytree(other_body_checkpoint, run / "checkpoint-1-20")
        (run / "new").symlink_to("checkpoint-1-20")
        (run / "new").replace(run / "best")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if versions(await engine.status()) == [version_of(other_body_checkpoint)]:
                return
            await asyncio.sleep(0.1)
        pytest.fail("the new best was not noticed")

    asyncio.run(main())
    engine.close()


def test_people_whose_request_is_over_are_not_computed(engine):
    async def main():
        await engine.start()
        with pytest.raises(TooLate):
            await engine.predict(ask(within_s=-1.0))

    asyncio.run(main())


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("bf16", 0.02)])
def test_the_served_network_says_what_the_predictor_says(body_checkpoint, precision, tolerance):
    settings = ModelSettings(checkpoint=str(body_checkpoint), precision=precision)
    served = ServedNetwork(body_checkpoint, "body", settings)
    plain = Predictor.from_checkpoint(body_checkpoint, precision="fp32").predict_arrays(CROP)
    arrays = served.predict(CROP)
    np.testing.assert_allclose(arrays.vertices, plain.vertices, atol=tolerance)
    np.testing.assert_allclose(arrays.cameras, plain.cameras, atol=tolerance)
    model = optimised(load_predictor_parts(body_checkpoint).model, precision)
    assert "BatchNorm2d" not in [type(module).__name__ for module in model.backbone.modules()]


def test_batches_are_filled_up_to_fixed_sizes(body_checkpoint, monkeypatch):
    settings = ModelSettings(checkpoint=str(body_checkpoint), max_batch_size=6, precision="fp32")
    served = ServedNetwork(body_checkpoint, "body", settings)
    sizes = []
    runtime = served._runtimes["torch"]
    counted = runtime._replace(
        run=lambda crops: sizes.append(len(crops)) or runtime.run(crops), sizes=batch_sizes(6)
    )
    monkeypatch.setitem(served._runtimes, "torch", counted)
    served.warm_up()
    assert sizes == [1, 2, 4, 6]
    three = served.predict(CROP.repeat(3, axis=0))
    assert sizes[-1] == 4
    assert len(three.vertices) == len(three.cameras) == 3
    np.testing.assert_allclose(three.vertices[2], served.predict(CROP).vertices[0], atol=2e-5)


def test_folding_keeps_a_backbone_that_it_does_not_understand():
    from torch import nn

    from metro_ray.models.fold import fold_batch_norm

    class Crossed(nn.Module):
        """Its parts run in another order than they were made in."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.5)

        def forward(self, x):
            return self.conv(torch.relu(self.norm(x)))

    crossed = Crossed().eval()
    assert fold_batch_norm(crossed) is crossed
