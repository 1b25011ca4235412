"""Experiment trackers (`run.trackers`): MLflow and Weights & Biases get what `metrics.csv` gets.

Each is served by a thread of its own, so that a slow or absent server costs the training nothing;
one that fails is given up with a warning. Where they send to is said the way their own
documentation says it: MLFLOW_TRACKING_URI, WANDB_MODE, WANDB_API_KEY and so on.
"""

from __future__ import annotations

import json
import math
import queue
import re
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from metro_ray.config.load import flat_dict
from metro_ray.errors import ConfigError, RunStopped
from metro_ray.training.files import write_json
from metro_ray.training.logs import METRO
from metro_ray.training.tracker_mlflow import MlflowTracker
from metro_ray.training.tracker_wandb import WandbTracker

if TYPE_CHECKING:
    from metro_ray.config.schema import TrainConfig

_IDS = "trackers.json"
_LONGEST_QUEUE = 10_000
_CLOSE_S = 60.0
_PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}


class Tracker(Protocol):
    """A tracker's client, used from one thread only. Whatever it raises ends its use."""

    def start(self, config: TrainConfig, settings: Mapping[str, Any], run_id: str | None) -> str:
        """Begin a run, or go on with `run_id`; `settings` are the config's by dotted key.

        Returns:
            The run's identity at the tracker.
        """
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a moment."""
        ...

    def finish(self, numbers: Mapping[str, float], texts: Mapping[str, str], status: str) -> None:
        """What the run came to; `status` is "finished", "stopped" or "failed"."""
        ...


TRACKERS: dict[str, Callable[[], Tracker]] = {"mlflow": MlflowTracker, "wandb": WandbTracker}


def require_trackers(config: TrainConfig) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        ConfigError: Names the extra to install.
    """
    missing = [name for name in config.run.trackers if find_spec(_PACKAGES[name]) is None]
    if missing:
        raise ConfigError(
            f"run.trackers names {', '.join(missing)}, which is not installed here: pip install "
            f"'metro-ray[{','.join(missing)}]' on every machine that trains, or leave it out"
        )


class Trackers:
    """The trackers of a run; none on ranks above 0.

    Args:
        config: Of the run.
        enabled: False on ranks that write nothing.
        continued: Whether the run goes on from a checkpoint, at the trackers too.
    """

    def __init__(self, config: TrainConfig, *, enabled: bool, continued: bool) -> None:
        folder = Path(config.run.output_dir)
        names = config.run.trackers if enabled else ()
        known = _read_ids(folder) if continued else {}
        self._feeds = [_Feed(name, config, known.get(name), folder) for name in names]
        self._result: Mapping[str, Any] = {}

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = "finished" if error is None else "failed"
        status = "stopped" if isinstance(error, RunStopped | KeyboardInterrupt) else status
        for feed in self._feeds:
            feed.close(self._result, status)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Hand numbers on; returns at once. Numbers that do not exist are left out."""
        finite = {_allowed(name): v for name, v in values.items() if math.isfinite(v)}
        for feed in self._feeds:
            feed.put(lambda tracker: tracker.log(finite, step))

    def set_result(self, result: Mapping[str, Any]) -> None:
        """What `result.json` holds, sent when the run ends."""
        self._result = result


class _Feed:
    """A tracker with its thread and what waits for it."""

    def __init__(self, name: str, config: TrainConfig, run_id: str | None, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._queue: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue(_LONGEST_QUEUE)
        self._given_up = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(config, run_id), name=f"tracker-{name}", daemon=True
        )
        self._thread.start()

    def put(self, work: Callable[[Tracker], None] | None) -> None:
        if self._given_up.is_set():
            return
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            self._give_up(f"it is {_LONGEST_QUEUE} messages behind")

    def close(self, result: Mapping[str, Any], status: str) -> None:
        numbers = {
            _allowed(f"result/{name}"): float(value)
            for name, value in result.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        texts = {n: result[n] for n in ("checkpoint", "kind") if isinstance(result.get(n), str)}
        self.put(lambda tracker: tracker.finish(numbers, texts, status))
        self.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._give_up(f"it does not answer for {_CLOSE_S:.0f} s")

    def _run(self, config: TrainConfig, run_id: str | None) -> None:
        try:
            tracker = TRACKERS[self._name]()
            _write_id(self._folder, self._name, tracker.start(config, flat_dict(config), run_id))
            while not self._given_up.is_set() and (work := self._queue.get()) is not None:
                work(tracker)
        except Exception as error:  # noqa: BLE001 - no tracker's trouble may cost the training
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        if not self._given_up.is_set():
            self._given_up.set()
            METRO.warning("nothing more is sent to %s, the run goes on: %s", self._name, reason)


_ID_LOCK = threading.Lock()


def _read_ids(folder: Path) -> dict[str, str]:
    path = folder / _IDS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write_id(folder: Path, name: str, run_id: str) -> None:
    with _ID_LOCK:
        write_json(folder / _IDS, {**_read_ids(folder), name: run_id})


def _allowed(name: str) -> str:
    """MLflow takes letters, digits, and a few signs; names of sources may have others."""
    return re.sub(r"[^\w\-. /]", "_", name)
