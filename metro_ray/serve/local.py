"""LocalEngine: networks in this process, without Ray and without batching across requests.

For an ASGI server of your own, for tests, and as what batching is measured against.
"""

from __future__ import annotations

from metro_ray.serve.engine import Ask, Reply, Status, TooLate
from metro_ray.serve.host import Done, Item, ModelHost
from metro_ray.serve.network import Mesh
from metro_ray.serve.schema import Task
from metro_ray.serve.settings import ModelChoice, ModelSettings


class LocalEngine:
    """One task's networks; call `start` on the event loop that will answer.

    Args:
        task: what they predict.
        settings: which checkpoint, and how it computes.
    """

    def __init__(self, task: Task, settings: ModelSettings) -> None:
        self._settings = settings
        self._host = ModelHost(task, settings)

    async def start(self) -> None:
        """Load the weights.

        Raises:
            MetroRayError: they cannot be loaded.
        """
        await self._host.change(self._settings.choice)

    async def change(self, choice: ModelChoice) -> None:
        """Swap the weights, see `ModelHost.change`."""
        await self._host.change(choice)

    async def predict(self, ask: Ask) -> Reply:
        """See `Engine`."""
        return await self._host.predict(ask, self._submit)

    async def status(self) -> Status:
        """See `Engine`."""
        return self._host.status()

    async def mesh(self) -> Mesh:
        """See `Engine`."""
        return self._host.mesh()

    def close(self) -> None:
        """Let its threads end."""
        self._host.close()

    async def _submit(self, item: Item) -> Done | TooLate:
        return (await self._host.run([item]))[0]
