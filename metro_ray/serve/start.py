"""Start a service and wait until it answers: what `metro-ray serve` and the tests do.

The service is deployed from the same settings as `serve deploy FILE` reads, so that its weights can
be changed later in the same way, without a restart.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from metro_ray.errors import MetroRayError, ResourceError
from metro_ray.serve.keys import KeyRing
from metro_ray.serve.settings import ServeArgs, read_args

APPLICATION = "metro_ray"
BUILDER = "metro_ray.serve.app:build_app"
_POLL_S = 0.25
_FAILED = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)


def deploy_config(args: ServeArgs, host: str = "127.0.0.1", port: int = 8000) -> dict[str, Any]:
    """The service as plain values, as `serve deploy` reads them from YAML.

    Args:
        args: of `build_app`.
        host: address that HTTP listens on.
        port: of HTTP.
    """
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": host, "port": port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": BUILDER,
                "args": args.model_dump(mode="json", exclude_unset=True),
            }
        ],
    }


@contextmanager
def running(config: Mapping[str, Any], timeout_s: float = 300.0) -> Iterator[str]:
    """Have a service while the context lasts, in the Ray session of this process.

    Args:
        config: see `deploy_config`.
        timeout_s: for models to load and warm up.

    Yields:
        Its URL.

    Raises:
        ConfigError: settings that are unknown or wrong; told before anything starts.
        ResourceError: the port is taken.
        MetroRayError: it does not come up; says why.
    """
    from metro_ray.serve.app import build_app, require_keys_beyond_loopback

    schema = ServeDeploySchema.model_validate(dict(config))
    for application in schema.applications:
        args = read_args(application.args)
        build_app(args)
        is_open = KeyRing(args.access).is_open
        require_keys_beyond_loopback(schema.http_options.host, is_open=is_open)
    http = schema.http_options.model_dump()
    _require_free(http["host"], http["port"])
    serve.start(
        http_options=http,
        proxy_location=schema.proxy_location,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    try:
        deploy(schema)
        wait_until_running(timeout_s)
        yield f"http://{http['host']}:{http['port']}"
    finally:
        serve.shutdown()


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise ResourceError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with --port"
        ) from error


def deploy(schema: ServeDeploySchema) -> None:
    """Bring what runs to what is described; only what differs changes."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None, "serve.start comes first"
    client.deploy_apps(schema)


def wait_until_running(timeout_s: float) -> None:
    """Wait until the service answers.

    Raises:
        MetroRayError: it failed, with Serve's reason.
        ResourceError: it takes too long, or finds no place in the cluster.
    """
    end = time.monotonic() + timeout_s
    message = ""
    while time.monotonic() < end:
        application = serve.status().applications.get(APPLICATION)
        if application is not None:
            if application.status == ApplicationStatus.RUNNING:
                return
            details = [d.message for d in application.deployments.values() if d.message]
            message = " ".join([application.message, *details]).strip()
            if application.status in _FAILED:
                raise MetroRayError(f"the service does not start: {message}")
        time.sleep(_POLL_S)
    raise ResourceError(
        f"the service did not start within {timeout_s:.0f} s. {message or 'Ray says nothing'}. "
        "Where replicas cannot be scheduled, lower cpus and gpus of the models, or add nodes; "
        "`serve status` and Ray's logs tell more"
    )
