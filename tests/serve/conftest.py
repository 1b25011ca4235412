"""Small checkpoints of bodies and hands, images to send, and the API over networks in this process."""

import asyncio
import os
import tempfile

import numpy as np
import pytest
from live import free_port
from served import encoded, local_args, write_checkpoint
from starlette.testclient import TestClient

from metro_ray.serve.api import create_api
from metro_ray.serve.local import LocalEngine

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_DEDUP_LOGS": "0",
    "OMP_NUM_THREADS": "1",
}


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


@pytest.fixture(scope="module")
def ray_session():
    """A cluster of its own with more CPUs than the machine has, so that nothing waits for them."""
    saved = {name: os.environ.get(name) for name in (*ENVIRONMENT, "RAY_ADDRESS")}
    os.environ.update(ENVIRONMENT)
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    with tempfile.TemporaryDirectory(
        prefix="mr-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        session = ray.init(
            address="local",
            num_cpus=8,
            object_store_memory=150 * 2**20,
            _temp_dir=folder,
            log_to_driver=False,
            logging_level="ERROR",
        )
        try:
            yield f"http://{session.dashboard_url}"
        finally:
            ray.shutdown()
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@pytest.fixture(scope="module")
def service(ray_session, body_checkpoint, hand_checkpoint):
    """URL and deployed configuration of a service of bodies and hands."""
    from metro_ray.serve.start import deploy_config, running

    args = local_args(body=body_checkpoint, hand=hand_checkpoint)
    config = deploy_config(args, port=free_port())
    with running(config, timeout_s=120) as url:
        yield url, config
