"""build_app: the Ray Serve application, the same for YAML, command line and tests.

    ingress (FastAPI; decodes, crops, encodes)  --uint8 crops-->  body  (replicas, batches)
                                                --------------->  hand  (replicas, batches)

`serve run serve_configs/body.yaml` calls it with the file's `args:`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import AutoscalingConfig, HTTPOptions
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from metro_ray.errors import ConfigError
from metro_ray.serve.api import create_api
from metro_ray.serve.batcher import Batcher
from metro_ray.serve.engine import Ask, Engine, Overloaded, Reply, Status
from metro_ray.serve.gate import ACCESS_LOG, LOOPBACK
from metro_ray.serve.host import ModelHost
from metro_ray.serve.keys import VARIABLE
from metro_ray.serve.network import Mesh
from metro_ray.serve.process import keep_freed_memory, limit_threads
from metro_ray.serve.schema import Task
from metro_ray.serve.settings import ModelSettings, ServeArgs, read_args, read_choice

_LOG = logging.getLogger(__name__)
INGRESS = "ingress"
_TRIES = 3
"""Replicas that a request is given to, where one after the other dies."""
_QUIET = LoggingConfig(enable_access_log=False)
_INGRESS_ONGOING = 10_000
"""The ingress has its own, smaller limit (`limits.max_pending`), which it refuses with JSON."""
_OF_JOBS = 16
"""More requests that an ingress may have under way, for the images of its jobs."""


class ModelReplica:
    """One copy of a task's networks.

    Serve calls `reconfigure` before the first request and when the `user_config` changes.

    Args:
        task: what it predicts.
        settings: `ModelSettings` as plain values.
    """

    def __init__(self, task: Task, settings: Mapping[str, Any]) -> None:
        _log_to_stderr()
        self._settings = ModelSettings.model_validate(settings)
        limit_threads(self._settings)
        keep_freed_memory()
        self._host = ModelHost(task, self._settings)
        self._batcher = Batcher(
            self._host.run, self._settings.max_batch_size, self._settings.batch_wait_ms / 1e3
        )

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Answer with the checkpoint that the `user_config` names, see `ModelChoice`."""
        await self._host.change(read_choice(user_config))

    async def predict(self, ask: Ask) -> Reply:
        """See `Engine`."""
        return await self._host.predict(ask, self._batcher.submit)

    async def status(self) -> Status:
        """See `Engine`."""
        return self._host.status()

    async def mesh(self) -> Mesh:
        """See `Engine`."""
        return self._host.mesh()


class ServeEngine:
    """The engine of a task whose networks are replicas of Ray Serve."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def predict(self, ask: Ask) -> Reply:
        """See `Engine`; cancelling it cancels the call, and takes its people out of the batch.

        A prediction changes nothing, so what was in a replica that died is asked of another one.
        """
        for _ in range(_TRIES):
            response = self._handle.predict.remote(ask)
            try:
                return cast(Reply, await response)
            except BackPressureError as error:
                raise Overloaded("every replica is busy and their queue is full") from error
            except RayActorError as error:
                _LOG.warning("a replica was lost with a request: %s", type(error).__name__)
            except asyncio.CancelledError:
                response.cancel()
                raise
        raise Overloaded(f"{_TRIES} replicas were lost with this request, one after the other")

    async def status(self) -> Status:
        """See `Engine`."""
        return cast(Status, await self._handle.status.remote())

    async def mesh(self) -> Mesh:
        """See `Engine`."""
        return cast(Mesh, await self._handle.mesh.remote())


class IngressReplica:
    """The process that speaks HTTP.

    Args:
        args: `ServeArgs` as plain values.
        handles: the deployments, by task.
    """

    def __init__(self, args: Mapping[str, Any], **handles: DeploymentHandle) -> None:
        _log_to_stderr()
        self._args = read_args(args)
        torch.set_num_threads(1)  # it has threads of its own, and leaves the cores to the networks
        self._engines: dict[Task, Engine] = {
            cast(Task, task): ServeEngine(handle) for task, handle in handles.items()
        }

    def __serve_build_asgi_app__(self) -> Any:
        replica = serve.get_replica_context().replica_id.unique_id
        api = create_api(self._engines, self._args, ingress=replica, tells_request_id=False)
        require_keys_beyond_loopback(_http_options().host, is_open=api.state.is_open)
        return api


def build_app(args: Mapping[str, Any] | ServeArgs) -> serve.Application:
    """The application of these settings.

    Args:
        args: see `ServeArgs`.

    Raises:
        ConfigError: names each setting that is unknown or wrong.
    """
    checked = read_args(args)
    handles = {task: _model(task, model, checked) for task, model in checked.models.items()}
    plain = checked.model_dump(mode="json")
    ingress = serve.deployment(serve.ingress()(IngressReplica), name=INGRESS).options(
        num_replicas=checked.ingress.replicas,
        ray_actor_options={"num_cpus": checked.ingress.cpus},
        max_ongoing_requests=_INGRESS_ONGOING,
        graceful_shutdown_timeout_s=checked.limits.timeout_s + 5,
        logging_config=_QUIET,
    )
    return ingress.bind(plain, **handles)


def require_keys_beyond_loopback(host: str | None, *, is_open: bool) -> None:
    """Refuse to answer strangers without keys.

    Args:
        host: address that HTTP listens on.
        is_open: whether everybody may ask.

    Raises:
        ConfigError: says how to make keys.
    """
    if is_open and host not in LOOPBACK:
        raise ConfigError(
            f"HTTP listens on {host}, which other machines reach, and no keys are configured: make "
            "one with `metro-ray serve-key NAME` and name the file in access.keys_file (or set "
            f"{VARIABLE}), or listen on 127.0.0.1 (http_options.host)"
        )


def _model(task: Task, model: ModelSettings, args: ServeArgs) -> serve.Application:
    """The deployment of a task.

    A replica takes all that the ingresses let in: its batcher holds what waits. Where replicas took
    less, what waits would be in Ray's router, which asks a full replica again only after pauses of
    up to half a second, so that under overload the networks would be idle most of the time.
    """
    replicas = model.replicas
    options: dict[str, Any] = {"num_cpus": model.cpus, "num_gpus": model.gpus}
    let_in = args.ingress.replicas * (args.limits.max_pending + _OF_JOBS)
    ongoing = max(2 * model.max_batch_size, int(2 * replicas.target_ongoing_requests), let_in)
    deployment = serve.deployment(ModelReplica, name=task).options(
        ray_actor_options=options,
        max_ongoing_requests=ongoing,
        max_queued_requests=model.max_queued_requests,
        user_config=model.choice.model_dump(mode="json"),
        autoscaling_config=AutoscalingConfig(
            min_replicas=replicas.min_replicas,
            initial_replicas=max(1, replicas.min_replicas),
            max_replicas=replicas.max_replicas,
            target_ongoing_requests=replicas.target_ongoing_requests,
            upscale_delay_s=replicas.upscale_delay_s,
            downscale_delay_s=replicas.downscale_delay_s,
            look_back_period_s=replicas.look_back_s,
            metrics_interval_s=min(2.0, replicas.look_back_s),
        ),
        health_check_period_s=5,
        graceful_shutdown_timeout_s=60,
        logging_config=_QUIET,
    )
    return deployment.bind(task, model.model_dump(mode="json"))


def _http_options() -> HTTPOptions:
    """How Serve's proxies listen; Ray has no public call for it inside a replica."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None, "a replica runs inside Serve"
    return client.http_config


def _log_to_stderr() -> None:
    """Send this program's log lines, and the access log as it is, to where Ray collects them."""
    for name, form in (
        ("metro_ray", "%(asctime)s %(levelname)s %(message)s"),
        (ACCESS_LOG.name, "%(message)s"),
    ):
        log = logging.getLogger(name)
        if not log.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(form))
            log.addHandler(handler)
            log.setLevel(logging.INFO)
            log.propagate = False
