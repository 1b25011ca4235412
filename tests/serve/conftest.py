"""Small checkpoints of bodies and hands, images to send, and the API over networks in this process."""

import asyncio

import numpy as np
import pytest
from served import encoded, local_args, write_checkpoint
from starlette.testclient import TestClient

from metro_ray.serve.api import create_api
from metro_ray.serve.local import LocalEngine


@pytest.fixture(scope="session")
def body_run(tmp_path_factory):
    """A run's folder with one checkpoint of bodies."""
    run = tmp_path_factory.mktemp("body-run")
    write_checkpoint(run / "checkpoints", "body", 1, 10)
    return run


@pytest.fixture(scope="session")
def body_checkpoint(body_run):
    return (body_run / "checkpoints" / "best").resolve()


@pytest.fixture(scope="session")
def other_body_checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("other"), "body", 2, 20)


@pytest.fixture(scope="session")
def hand_checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("hand"), "hand", 3, 30)


@pytest.fixture(scope="session")
def photo():
    """A smooth picture of 160 x 120 with a little noise."""
    y, x = np.mgrid[:120, :160].astype(np.float32)
    waves = np.stack([np.sin(x / 17), np.cos(y / 11), np.sin((x + y) / 23)], axis=2)
    noise = np.random.default_rng(0).normal(0, 4, waves.shape)
    return np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def jpeg(photo):
    return encoded(photo)


@pytest.fixture(scope="session")
def png(photo):
    return encoded(photo, "png")


@pytest.fixture(scope="session")
def engines(body_checkpoint, hand_checkpoint):
    """Networks in this process, loaded once."""
    args = local_args(body=body_checkpoint, hand=hand_checkpoint)
    loaded = {task: LocalEngine(task, model) for task, model in args.models.items()}

    async def start():
        for engine in loaded.values():
            await engine.start()

    asyncio.run(start())
    yield loaded
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="session")
def make_client(engines, body_checkpoint, hand_checkpoint):
    """A client of an API with these settings over the networks in this process, or others."""

    def make(others=None, **settings):
        args = local_args(body=body_checkpoint, hand=hand_checkpoint, **settings)
        api = create_api(engines if others is None else others, args)
        return TestClient(api, base_url="http://localhost:8000")

    return make


@pytest.fixture(scope="session")
def client(make_client):
    return make_client()
