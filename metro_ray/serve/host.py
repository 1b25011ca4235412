"""ModelHost: the versions that one replica holds, and the batches that run through them.

Weights change while requests run: a new version is loaded and warmed in a thread, then a reference
is swapped. Requests that have begun keep the version that they began with.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import MetroRayError
from metro_ray.inference.result import MeshArrays
from metro_ray.serve.engine import Ask, Reply, Served, Status, TooLate, VersionNotServed
from metro_ray.serve.network import Mesh, ServedNetwork
from metro_ray.serve.process import in_a_thread
from metro_ray.serve.schema import Task
from metro_ray.serve.settings import ModelChoice, ModelSettings
from metro_ray.serve.sources import Found, fetch, find_checkpoint, version_of

_LOG = logging.getLogger(__name__)


class Item(NamedTuple):
    """One person that waits for a batch."""

    network: ServedNetwork
    crop: UInt8[np.ndarray, "3 S S"]
    deadline: float
    since: float
    """Both of `time.perf_counter`."""


class Done(NamedTuple):
    """One person that was predicted; the arrays have a batch of one."""

    arrays: MeshArrays
    queue_ms: float
    model_ms: float
    batch_size: int


@dataclass(slots=True)
class _Line:
    """Who answers at present."""

    current: ServedNetwork
    stamp: str
    candidate: ServedNetwork | None
    share: float


class ModelHost:
    """The networks of one task in one process.

    Args:
        task: what they predict.
        settings: how they compute.
    """

    def __init__(self, task: Task, settings: ModelSettings) -> None:
        self.task: Task = task
        self._settings = settings
        self._line: _Line | None = None
        self._kept: list[ServedNetwork] = []
        self._problem: str | None = None
        self._changing = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def change(self, choice: ModelChoice) -> None:
        """Answer with other weights from now on.

        What cannot be loaded, for whatever reason, changes nothing once something is served: it is
        logged and told by `status`, while the versions before go on answering.

        Raises:
            MetroRayError: the first weights cannot be loaded.
        """
        async with self._changing:
            self._follow(choice)
            await self._change(choice)

    async def predict(self, ask: Ask, submit: Callable[[Item], Awaitable[Done | TooLate]]) -> Reply:
        """Answer one request with one version.

        Args:
            ask: the request.
            submit: puts a person into a batch, which `run` gets, and waits for it.

        Raises:
            VersionNotServed: `ask.version` is not loaded.
            TooLate: its time was over in the queue.
        """
        network = self._choose(ask)
        now = time.perf_counter()
        items = [Item(network, crop, now + ask.within_s, now) for crop in ask.crops]
        answers = await asyncio.gather(*(submit(item) for item in items))
        done: list[Done] = []
        for answer in answers:
            if isinstance(answer, TooLate):
                raise answer
            done.append(answer)
        arrays = MeshArrays(
            *(np.concatenate(parts) for parts in zip(*(d.arrays for d in done), strict=True))
        )
        if not ask.vertices:
            arrays = arrays._replace(vertices=arrays.vertices[:, :0])
        known = network.mesh.body_model in ask.known_meshes
        return Reply(
            card=network.card,
            arrays=arrays,
            mesh=None if known else network.mesh,
            model_ms=max(d.model_ms for d in done),
            queue_ms=max(d.queue_ms for d in done),
            batch_size=max(d.batch_size for d in done),
        )

    async def run(self, items: Sequence[Item]) -> list[Done | TooLate]:
        """Predict a batch off the event loop; people whose request has ended are left out."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._compute, self._run, list(items))

    def status(self) -> Status:
        """What is served; nothing before the first weights are warm."""
        line = self._line
        if line is None:
            return Status((), self._problem)
        served = [Served(line.current.card, 1.0 - line.share)]
        if line.candidate is not None:
            served.append(Served(line.candidate.card, line.share))
        return Status(tuple(served), self._problem)

    def mesh(self) -> Mesh:
        """The surface of the current version."""
        return self._ready().current.mesh

    def close(self) -> None:
        """Stop following, let the network's thread end."""
        if self._follower is not None:
            self._follower.cancel()
        self._compute.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> _Line:
        if self._line is None:
            raise VersionNotServed(f"no weights of {self.task} are loaded yet")
        return self._line

    def _choose(self, ask: Ask) -> ServedNetwork:
        line = self._ready()
        if ask.version is None:
            chosen = line.candidate if ask.draw < line.share else None
            return chosen or line.current
        held = [line.current, *([line.candidate] if line.candidate else []), *self._kept]
        for network in held:
            if network.card.version == ask.version:
                return network
        raise VersionNotServed(
            f"version {ask.version} of {self.task} is not loaded; these are: "
            f"{', '.join(network.card.version for network in held)}"
        )

    def _run(self, items: list[Item]) -> list[Done | TooLate]:
        results: list[Done | TooLate | None] = [None] * len(items)
        groups: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            if time.perf_counter() > item.deadline:
                results[number] = TooLate("its time was over before the network was free")
            else:
                groups.setdefault(id(item.network), []).append(number)
        for numbers in groups.values():
            start = time.perf_counter()
            crops = np.stack([items[number].crop for number in numbers])
            arrays = items[numbers[0]].network.predict(crops)
            model_ms = 1e3 * (time.perf_counter() - start)
            for place, number in enumerate(numbers):
                one = MeshArrays(*(array[place : place + 1] for array in arrays))
                queue_ms = 1e3 * (start - items[number].since)
                results[number] = Done(one, queue_ms, model_ms, len(numbers))
        return [result for result in results if result is not None]

    async def _change(self, choice: ModelChoice) -> None:
        try:
            line = await in_a_thread(self._load_line, choice)
        except Exception as error:
            self._problem = f"{_names(choice)}: {error or type(error).__name__}"
            if self._line is None:
                raise
            known = isinstance(error, MetroRayError)
            _LOG.error(
                "%s keeps its weights, the new ones cannot be loaded: %s",
                self.task,
                self._problem,
                exc_info=None if known else error,
            )
            return
        before, self._line, self._problem = self._line, line, None
        self._keep(before, line)
        _LOG.info("%s is served by %s", self.task, [s.card.version for s in self.status().served])

    def _load_line(self, choice: ModelChoice) -> _Line:
        current, stamp = self._load(choice.checkpoint)
        candidate = None if choice.candidate is None else self._load(choice.candidate)[0]
        return _Line(current, stamp, candidate, choice.candidate_share)

    def _load(self, name: str) -> tuple[ServedNetwork, str]:
        found: Found = find_checkpoint(name)
        folder = fetch(found)
        version = version_of(folder)
        line = self._line
        held = [*self._kept, *([line.current, line.candidate] if line else [])]
        for network in held:
            if network is not None and network.card.version == version:
                return network, found.stamp
        network = ServedNetwork(folder, self.task, self._settings)
        network.warm_up()
        return network, found.stamp

    def _keep(self, before: _Line | None, now: _Line) -> None:
        gone = [] if before is None else [before.current, before.candidate]
        in_use = {now.current, now.candidate}
        kept = [network for network in [*gone, *self._kept] if network not in in_use]
        unique = dict.fromkeys(network for network in kept if network is not None)
        self._kept = list(unique)[: self._settings.keep_versions]

    def _follow(self, choice: ModelChoice) -> None:
        if self._follower is not None:
            self._follower.cancel()
            self._follower = None
        if choice.follow_s is not None:
            self._follower = asyncio.create_task(self._look(choice, choice.follow_s))

    async def _look(self, choice: ModelChoice, pause_s: float) -> None:
        """Change when what the name leads to has changed, until cancelled."""
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))
            try:
                found = await in_a_thread(find_checkpoint, choice.checkpoint)
            except Exception as error:  # noqa: BLE001 - it may be there again next time
                self._problem = f"{_names(choice)}: {error or type(error).__name__}"
                _LOG.warning("cannot follow %s: %s", choice.checkpoint, self._problem)
                continue
            async with self._changing:
                if self._line is None or found.stamp != self._line.stamp:
                    await self._change(choice)
                else:
                    self._problem = None


def _names(choice: ModelChoice) -> str:
    return " and ".join(name for name in (choice.checkpoint, choice.candidate) if name)
