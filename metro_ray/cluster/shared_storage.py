"""Asks every node, before a run, whether it sees the run's folder and the data sets.

A folder that only the driver sees is found here, by name, and not in the middle of a run, when a
rank on another node looks for a checkpoint or a read task for its file.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from metro_ray.cluster.resources import ResourcePlan
    from metro_ray.config.schema import TrainConfig

_TIMEOUT_S = 120.0
_PATIENCE_S = 3.0
"""Network file systems may show a new file late."""


class NeededPath(NamedTuple):
    """What a node must see."""

    key: str
    """Of the setting that names it."""
    path: str
    """Absolute."""
    by_ranks_only: bool
    """Nodes without ranks do without it."""


def require_shared_storage(
    config: TrainConfig, plan: ResourcePlan, *, shares_output: bool = True
) -> None:
    """Have each node of the attached cluster look for a new file of the run's folder and the data.

    Args:
        config: With a `run.output_dir` that is there.
        plan: Of the run.
        shares_output: Whether others than the driver write to `run.output_dir`, or read it.

    Raises:
        ResourceError: A node does not see them, or cannot run the package at all.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0)]
    if len({node["NodeID"] for node in nodes} | {ray.get_runtime_context().get_node_id()}) < 2:
        return
    if not shares_output:
        _ask_nodes(nodes, _needed(config, None), plan)
        return
    marker = Path(config.run.output_dir).absolute() / f".seen-by-all-{secrets.token_hex(4)}"
    marker.touch()
    try:
        _ask_nodes(nodes, _needed(config, marker), plan)
    finally:
        marker.unlink()


def _needed(config: TrainConfig, marker: Path | None) -> list[NeededPath]:
    from metro_ray.data.storage import is_url

    needed = [] if marker is None else [NeededPath("run.output_dir", str(marker), True)]
    weights = {
        "run.resume_checkpoint": config.run.resume_checkpoint,
        "model.backbone_weights": config.model.backbone_weights,
    }
    for key, name in weights.items():
        if name is not None and Path(name).exists():
            needed.append(NeededPath(key, str(Path(name).absolute()), True))
    data = config.data
    for key, name in (("data.train_yaml", data.train_yaml), ("data.val_yaml", data.val_yaml)):
        if name is None or is_url(name):
            continue
        found = Path(name) if Path(name).exists() else Path(data.root) / name
        needed.append(NeededPath(key, str(found.absolute()), False))
    return needed


def _ask_nodes(nodes: list[dict], needed: list[NeededPath], plan: ResourcePlan) -> None:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(missing_paths)
    asked = {}
    for node in nodes:
        has_ranks = not plan.use_gpu or node["Resources"].get("GPU", 0) > 0
        paths = [need.path for need in needed if has_ranks or not need.by_ranks_only]
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = look.options(scheduling_strategy=strategy).remote(paths)
        asked[node["NodeManagerAddress"], node["NodeID"]] = answer
    keys = {need.path: need.key for need in needed}
    for (address, _), answer in asked.items():
        try:
            missing = ray.get(answer, timeout=_TIMEOUT_S)
        except RayError as error:
            first = str(error).strip().splitlines()[-1]
            raise ResourceError(
                f"node {address} cannot run the package: {first}; install it there as here "
                "(pip install -c constraints.txt '.[all]')"
            ) from error
        if missing:
            raise ResourceError(_explain(address, missing[0], keys[missing[0]]))


def missing_paths(paths: list[str]) -> list[str]:
    """Those of the paths that are not there, even after some seconds. Runs on a node."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        missing = [path for path in paths if not Path(path).exists()]
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.2)


def _explain(address: str, path: str, key: str) -> str:
    if key == "run.output_dir":
        return (
            f"node {address} does not see what this machine writes to run.output_dir "
            f"{Path(path).parent}: ranks there could not read checkpoints. Put it on storage that "
            "all nodes share (NFS, EFS, Lustre, ...), under the same path"
        )
    if not key.startswith("data."):
        return (
            f"node {address} does not see {key} {path}: the network is loaded there. Put it on "
            "storage that all nodes share, under the same path"
        )
    return (
        f"node {address} does not see {key} {path}: read tasks run there. Put data sets on storage "
        "that all nodes share, under the same path, or behind a URL such as s3://"
    )
