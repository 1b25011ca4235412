"""The jobs of `metro-ray call`: many photos, or a video, in one request; a zip comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metro_ray.data.progress import show_progress

if TYPE_CHECKING:
    from metro_ray.serve.client import Client
    from metro_ray.serve.schema import Job, Task


def run_job(
    client: Client, task: Task, files: Sequence[Path], target: Path, options: dict[str, Any]
) -> Job:
    """Have files predicted as one job and fetch its zip; Ctrl-C cancels it.

    Args:
        client: of the service.
        task: what to predict.
        files: photos, or one video.
        target: the zip, there whole or not at all.
        options: of `Client.submit_job`.

    Returns:
        The job, done; the service has forgotten it and its files.

    Raises:
        RequestError: it was refused or failed, or the service did not answer.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    job_id = client.submit_job(task, files, **options).id
    try:
        looks = client.follow_job(job_id)
        first = next(look for look in looks if look.total is not None or look.state == "done")
        what = files[0].name if len(files) == 1 else f"{len(files)} photos"
        show_progress(_steps(first, looks), first.total or first.done, what=what)
        job = client.job(job_id)
        client.download_job(job_id, target)
    finally:
        client.cancel_job(job_id)
    return job


def _steps(job: Job, looks: Iterator[Job]) -> Iterator[int]:
    """How much was finished between looks at a job."""
    yield job.done
    for look in looks:
        yield look.done - job.done
        job = look
