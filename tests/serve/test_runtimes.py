"""ONNX Runtime beside PyTorch: the same answers, the faster one where that is asked for."""

import asyncio
import time

import numpy as np
import pytest

from metro_ray.cli.main import main
from metro_ray.errors import ConfigError
from metro_ray.inference.onnx_network import OnnxNetwork
from metro_ray.serve.local import LocalEngine
from metro_ray.serve.network import Runtime, ServedNetwork
from metro_ray.serve.settings import read_args
from tests.served import write_checkpoint


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("hand"), "hand", 3, 7)


def served(folder, **settings):
    args = read_args({"hand": {"checkpoint": str(folder), "max_batch_size": 2} | settings})
    return ServedNetwork(folder, "hand", args.models["hand"])


@pytest.mark.slow
def test_both_runtimes_answer_the_same(hand):
    crops = np.random.default_rng(1).integers(0, 256, (3, 3, 224, 224), np.uint8)
    answers = {}
    for runtime in ("torch", "onnxruntime"):
        network = served(hand, runtime=runtime, precision="fp32")
        network.warm_up()
        assert network.card.runtime == runtime
        assert network.card.precision == "fp32"
        answers[runtime] = network.predict(crops)
    for one, other in zip(answers["torch"], answers["onnxruntime"], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("slow", ["torch", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_auto_keeps_the_faster_one(hand, slow, monkeypatch):
    network = served(hand, runtime="auto")
    held_up = network._runtimes[slow]

    def wait(crops):
        time.sleep(1.0)
        return held_up.run(crops)

    monkeypatch.setitem(network._runtimes, slow, Runtime(wait, held_up.precision, ()))
    network.warm_up()
    (other,) = {"torch", "onnxruntime"} - {slow}
    assert network.card.runtime == other
    assert list(network._runtimes) == [other]  # the other one's memory is free
    assert network.predict(np.zeros((1, 3, 224, 224), np.uint8)).vertices.shape[0] == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"runtime": "auto", "gpus": 1}, "runtime auto is for CPUs"),
        ({"runtime": "onnxruntime", "precision": "bf16"}, "computes in fp32"),
        ({"runtime": "tensorrt"}, "'torch', 'onnxruntime' or 'auto'"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        read_args({"hand": {"checkpoint": "somewhere"} | settings})


def test_a_file_for_elsewhere(hand, tmp_path, capsys):
    target = tmp_path / "new" / "hand.onnx"
    assert main(["export", str(hand), "--out", str(target)]) == 0
    printed = capsys.readouterr().out
    assert "crops     uint8   (B, 3, 224, 224)" in printed
    assert OnnxNetwork(target).card.body_model == "anny_hand"
    for name, words in (
        (target, "exists: name another file, or add --overwrite"),
        (tmp_path / "hand.pt", "ends in .onnx"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["export", str(hand), "--out", str(name)])
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_served_says_what_computes(hand):
    args = read_args({"hand": {"checkpoint": str(hand), "runtime": "onnxruntime"}})

    async def cards():
        engine = LocalEngine("hand", args.models["hand"])
        await engine.start()
        try:
            return [served.card for served in (await engine.status()).served]
        finally:
            engine.close()

    (card,) = asyncio.run(cards())
    assert card.runtime == "onnxruntime"
