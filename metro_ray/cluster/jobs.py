"""Jobs on a cluster: submit, follow, look, stop; over the HTTP port of the cluster's head."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.cluster.token_file import warn_if_others_can_read_it
from metro_ray.errors import ResourceError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_POLL_S = 0.5
_HEAD_STARTS_S = 60.0
_NOT_YET = "No available agent"
"""What Ray says while no node of the cluster is ready to start a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobState:
    """How a job stands."""

    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Of the job's process; None while it runs, and where it never started."""
    message: str
    """Ray's words."""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, however."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def shell_status(self) -> int:
        """Exit status of a shell that would have run the job itself; 1 where Ray knows none."""
        if self.status == "SUCCEEDED":
            return 0
        code = self.exit_code or 1
        return 128 - code if code < 0 else code


class Jobs:
    """The jobs of one cluster.

    Args:
        address: URL of its dashboard; None takes RAY_API_SERVER_ADDRESS, then this machine.

    Raises:
        ResourceError: Nothing answers there, or it refuses the token.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
        warn_if_others_can_read_it()
        with self._explained():
            from ray.job_submission import JobSubmissionClient

            logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)
            self._client: JobSubmissionClient = JobSubmissionClient(self.address)

    def submit(self, command: str, folder: Path, job_id: str | None = None) -> str:
        """Send a folder, less what .rayignore and .gitignore name, and start a command in it.

        Args:
            command: For a shell, in that folder.
            folder: It is copied to the cluster.
            job_id: Name of the job; None has Ray make one.

        Returns:
            The job's name.

        Raises:
            ResourceError: The cluster does not take it.
        """
        environment = {"working_dir": str(folder)}
        deadline = time.monotonic() + _HEAD_STARTS_S
        with self._explained():
            while True:
                try:
                    return self._client.submit_job(
                        entrypoint=command, submission_id=job_id, runtime_env=environment
                    )
                except RuntimeError as error:
                    # A head that has just started answers before it can start jobs.
                    if _NOT_YET not in str(error) or time.monotonic() > deadline:
                        raise
                time.sleep(_POLL_S)

    def state(self, job_id: str) -> JobState:
        """How a job stands.

        Raises:
            ResourceError: No such job, or no answer.
        """
        with self._explained(job_id):
            info = self._client.get_job_info(job_id)
        return JobState(
            status=str(info.status.value),
            exit_code=info.driver_exit_code,
            message=info.message or "",
        )

    def follow(self, job_id: str, write: Callable[[str], object]) -> JobState:
        """Hand on what a job prints, from its beginning, until it ends.

        Raises:
            ResourceError: No such job, or the cluster is gone.
        """
        self.state(job_id)  # says whether there is such a job
        with self._explained(job_id):
            asyncio.run(self._tail(job_id, write))
        while not (state := self.state(job_id)).is_over:
            time.sleep(_POLL_S)
        return state

    def stop(self, job_id: str) -> JobState:
        """Have Ray send SIGTERM, and SIGKILL later; returns how the job stands then.

        Raises:
            ResourceError: No such job, or no answer.
        """
        with self._explained(job_id):
            self._client.stop_job(job_id)
        return self.state(job_id)

    async def _tail(self, job_id: str, write: Callable[[str], object]) -> None:
        async for text in self._client.tail_job_logs(job_id):
            write(text)

    @contextmanager
    def _explained(self, job_id: str | None = None) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise self._refused() from error
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            text = str(error)
            if "401" in text or "403" in text:
                raise self._refused() from error
            if job_id is not None and ("404" in text or "does not exist" in text):
                raise ResourceError(
                    f"the cluster at {self.address} knows no job {job_id}; "
                    "`ray job list` shows those it knows"
                ) from error
            if isinstance(error, ConnectionError):
                raise ResourceError(
                    f"no Ray cluster answers at {self.address}: give the URL of its dashboard with "
                    "--address or RAY_API_SERVER_ADDRESS (from outside: `ray dashboard "
                    "cluster.yaml`, `kubectl port-forward` or ssh -L 8265:127.0.0.1:8265 HEAD)"
                ) from error
            raise ResourceError(f"the cluster at {self.address} refused: {text}") from error

    def _refused(self) -> ResourceError:
        return ResourceError(
            f"the cluster at {self.address} wants its token and did not get it: set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to what it was "
            "started with"
        )
