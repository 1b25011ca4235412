"""Engine: what the HTTP side knows of networks, be they in Ray Serve replicas or in this process.

Crops go in as uint8, arrays come out; an engine knows nothing of HTTP, files or pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8

from metro_ray.errors import MetroRayError
from metro_ray.inference.result import MeshArrays
from metro_ray.serve.network import Card, Mesh


@dataclass(frozen=True, slots=True)
class Ask:
    """The people of one request."""

    crops: UInt8[np.ndarray, "N 3 S S"]
    within_s: float
    """Seconds after which nobody waits for the answer; clocks of machines differ, so no time."""
    draw: float
    """In [0, 1): decides which version answers where two share the requests."""
    version: str | None = None
    """Only this one."""
    vertices: bool = True
    """Whether vertices are needed."""
    known_meshes: tuple[str, ...] = ()
    """Body models whose surface the asker has."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one version says about all people of a request."""

    card: Card
    arrays: MeshArrays
    """Without vertices (B, 0, 3) where they were not asked for."""
    mesh: Mesh | None
    """Where the asker did not know it."""
    model_ms: float
    """In the network, until the last person was done."""
    queue_ms: float
    """Waiting for a batch."""
    batch_size: int
    """People in the largest batch that these were part of."""


class Served(NamedTuple):
    """A version with its share of the requests."""

    card: Card
    traffic: float


@dataclass(frozen=True, slots=True)
class Status:
    """What a task answers with at present."""

    served: tuple[Served, ...]
    problem: str | None = None
    """Why the last change of weights did not happen."""


class Engine(Protocol):
    """The networks of one task."""

    async def predict(self, ask: Ask) -> Reply:
        """Predict; cancelling it drops the work.

        Raises:
            Overloaded: too much is waiting already.
            VersionNotServed: `ask.version` is not loaded.
            TooLate: its time was over in the queue.
        """
        ...

    async def status(self) -> Status:
        """What is served."""
        ...

    async def mesh(self) -> Mesh:
        """The surface of what is served."""
        ...


class Overloaded(MetroRayError):  # noqa: N818 - a state, told with 503
    """The queue is full."""


class VersionNotServed(MetroRayError, LookupError):  # noqa: N818 - told with 404
    """A version was asked for that is not loaded."""


class TooLate(MetroRayError, TimeoutError):  # noqa: N818 - told with 408
    """The time of a request was over before the network was free."""
