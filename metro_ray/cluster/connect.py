"""Attach to a Ray cluster, or start one on this machine and shut it down again.

`RAY_ADDRESS` decides: where it is set (by hand, or by `ray job submit`), that cluster is used, and
only that. Otherwise a cluster is started for the run: own temporary folder, own random token (Ray
listens on all interfaces), nothing written to the home folder, nothing left behind.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.cluster.machine import num_gpus, object_store_bytes, usable_cpus
from metro_ray.cluster.machines import plan_with_machines
from metro_ray.cluster.resources import NodeResources, ResourcePlan, local_node, plan_resources
from metro_ray.cluster.token_file import warn_if_others_can_read_it
from metro_ray.errors import MetroRayError, ResourceError

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_LOG = logging.getLogger(__name__)
_ATTEMPTS, _TOO_SLOW = 2, "timed out during startup"
_LOCAL = "local"
_MAX_TEMP_DIR = 40
"""Ray adds some 62 characters to the folder for its sockets, whose paths end at 107."""

_RAYS_PART = "r"
"""Ray opens its folder to everybody (mode 777), so it lies in one that only we may enter."""

_AUTH_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # no line of a run's log is dropped for being like another
    "RAY_COLOR_PREFIX": "0",
    "RAY_DISABLE_WORKER_LOG_PREFIX": "1",  # the lines of rank 0 are the lines of the run
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how long a report waits for the controller
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
_QUIET_LOCALLY = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""This machine does not announce that it will be taken away; the watcher is a process of 100 MB."""


@contextmanager
def cluster(config: TrainConfig) -> Iterator[ResourcePlan]:
    """Have a cluster while the context lasts, and know how the run divides it.

    A Ray session of this process that is already there is used and left alone. Variables of the
    environment that the user has set win over ours.

    Raises:
        ResourceError: `RAY_ADDRESS` cannot be reached, or the cluster cannot run this.
    """
    address = os.environ.get("RAY_ADDRESS", _LOCAL)
    local = _QUIET_LOCALLY if address == _LOCAL else {}
    with set_where_unset({**local, **ray_variables(config)}):
        import ray

        if ray.is_initialized():
            with plan_with_machines(config, live_nodes) as plan:
                yield plan
        elif address != _LOCAL:
            with _attached(address), plan_with_machines(config, live_nodes) as plan:
                yield plan
        else:
            node = local_node(config, usable_cpus(), num_gpus())
            plan = plan_resources([node], config)  # refuses before anything has been started
            with _started(node):
                yield plan


@contextmanager
def session(cpus: int) -> Iterator[None]:
    """Have a Ray session for a service while the context lasts, found as `cluster` finds its own.

    Args:
        cpus: that the service reserves; a session of its own has them, whatever the machine has.

    Raises:
        ResourceError: `RAY_ADDRESS` cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS", _LOCAL)
    with set_where_unset(_QUIET):
        import ray

        if ray.is_initialized():
            yield
        elif address != _LOCAL:
            with _attached(address):
                yield
        else:
            with _started(NodeResources(float(max(cpus, usable_cpus())), float(num_gpus()))):
                yield


def ray_variables(config: TrainConfig) -> dict[str, str]:
    """Variables of the environment that a process needs which starts Ray Train."""
    timeout = str(config.scaling.start_timeout_s)
    return {**_QUIET, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": timeout}


@contextmanager
def set_where_unset(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment that are not set yet, and take them away again."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def replan(config: TrainConfig) -> ResourcePlan:
    """Divide the nodes that the attached cluster has now.

    Raises:
        ResourceError: They cannot run this any more.
    """
    return plan_resources(live_nodes(), config)


@contextmanager
def _attached(address: str) -> Iterator[None]:
    import ray

    warn_if_others_can_read_it()
    try:
        _knock(address)
        ray.init(address=address, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        raise ResourceError(
            f"no Ray cluster answers at RAY_ADDRESS={address} (RAY_AUTH_MODE is {mode}): start it "
            "with `ray start --head`, give the token it was started with (RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN), or unset RAY_ADDRESS to run on this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nothing listens; Ray itself would try for twenty seconds.

    Raises:
        OSError: No connection to `host:port`. Other forms of address are left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()


@contextmanager
def _started(node: NodeResources) -> Iterator[None]:
    import ray

    _give_token()
    with _temp_dir() as folder:
        try:
            _start(node, folder / _RAYS_PART)
            yield
        finally:
            ray.shutdown()


def _start(node: NodeResources, folder: Path) -> None:
    """Start a cluster; once more where the machine was too busy for Ray's limit of 30 s.

    Raises:
        ResourceError: It does not come up.
    """
    import ray

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with set_where_unset(_own_address()):
                ray.init(
                    address=_LOCAL,
                    num_cpus=int(node.cpus),
                    num_gpus=int(node.gpus),
                    object_store_memory=object_store_bytes(),
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder),
                )
        except Exception as error:
            # Ray has no type of its own for this.
            if _TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            load = f"{os.getloadavg()[0]:.0f} processes want its {usable_cpus()} CPUs"
            if attempt == _ATTEMPTS:
                raise ResourceError(
                    f"Ray did not start within {_ATTEMPTS} x 30 s: this machine is too busy "
                    f"({load}); try again when it has less to do"
                ) from error
            _LOG.warning("Ray did not start within 30 s (%s); trying once more", load)
        else:
            return


def _own_address() -> dict[str, str]:
    """Variables by which the cluster's processes know their own cluster.

    Some of Ray's actors look for "the" cluster of the machine and complain if there are several.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"127.0.0.1:{port}"}


def _give_token() -> None:
    """Give the cluster a random token, where the user has not decided about authentication.

    Ray switches token mode on for a local cluster by itself, but would write its token into the
    home folder. The token stays in this process's environment: Ray reads it once per process.
    """
    if not any(os.environ.get(name) for name in _AUTH_VARIABLES):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _temp_dir() -> Iterator[Path]:
    """A short folder for Ray's sockets and logs; kept after an error that nobody has foreseen."""
    base = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir=base))
    if len(str(folder / _RAYS_PART)) > _MAX_TEMP_DIR:
        folder.rmdir()
        raise ResourceError(
            f"RAY_TMPDIR is {base}, which is too long for Ray's sockets; name a folder of at most "
            f"{_MAX_TEMP_DIR - 14} characters"
        )
    keep = False
    try:
        yield folder
    except Exception as error:
        keep = not isinstance(error, MetroRayError)
        raise
    finally:
        if keep:
            _LOG.warning("Ray's logs are kept in %s", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def live_nodes() -> list[NodeResources]:
    """The machines of the attached cluster."""
    import ray

    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [NodeResources(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]
