"""Batcher: whatever waits when the network is free goes through it together.

A batch is closed when the network can take it, not before: while one batch is computed, all that
comes is collected for the next. (`serve.batch` closes batches by a clock, so that those of a busy
replica wait in line half empty; docs/serving.md has the numbers.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Batcher(Generic[_In, _Out]):
    """Collects items of many tasks of one event loop.

    Args:
        run: computes a batch; one result for each item, in order.
        max_size: of a batch.
        wait_s: how long an incomplete batch waits for more once the network is free.
    """

    def __init__(
        self,
        run: Callable[[list[_In]], Awaitable[Sequence[_Out]]],
        max_size: int,
        wait_s: float = 0.0,
    ) -> None:
        self._run = run
        self._max_size = max_size
        self._wait_s = wait_s
        self._waiting: deque[tuple[_In, asyncio.Future[_Out]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: _In) -> _Out:
        """The result of an item; cancelling this takes it out of the line."""
        future: asyncio.Future[_Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Compute batches until nothing waits."""
        while self._waiting:
            if self._wait_s > 0 and len(self._waiting) < self._max_size:
                await asyncio.sleep(self._wait_s)
            batch: list[tuple[_In, asyncio.Future[_Out]]] = []
            while self._waiting and len(batch) < self._max_size:
                item, future = self._waiting.popleft()
                if not future.done():  # cancelled while it waited
                    batch.append((item, future))
            if batch:
                await self._compute(batch)

    async def _compute(self, batch: list[tuple[_In, asyncio.Future[_Out]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - every caller gets it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
