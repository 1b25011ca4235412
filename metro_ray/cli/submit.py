"""`metro-ray submit`: a job of jobs/ on a cluster, followed to its end, with its exit status."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metro_ray.cli.guard import INTERRUPTED
from metro_ray.config.secrets import has_secret
from metro_ray.errors import ConfigError

if TYPE_CHECKING:
    from metro_ray.cluster.jobs import Jobs

_FOLDER = "jobs"


def run(argv: Sequence[str]) -> int:
    """Submit and follow, or look at a job that is there.

    Returns:
        The job's own exit status. With --no-wait 0; with --status and --stop 0, or 1 for a job
        that failed.
    """
    arguments = build_parser().parse_args(argv)
    chosen = [arguments.status, arguments.follow, arguments.stop, arguments.job]
    if sum(choice is not None for choice in chosen) != 1:
        raise ConfigError(
            "give the name of a job of jobs/, such as train_body, with its flags behind it; or one "
            "of --status ID, --follow ID, --stop ID"
        )
    if arguments.job is not None:
        command = _command(arguments.job, arguments.flags, Path.cwd())
    from metro_ray.cluster.jobs import Jobs

    jobs = Jobs(arguments.address)
    if arguments.job is not None:
        job_id = jobs.submit(command, Path.cwd(), arguments.id)
        print(f"job {job_id} on {jobs.address}", file=sys.stderr)
        if arguments.no_wait:
            print(job_id)
            return 0
        return _follow(jobs, job_id)
    if arguments.follow is not None:
        return _follow(jobs, arguments.follow)
    asked = arguments.status or arguments.stop
    state = jobs.state(asked) if arguments.status else jobs.stop(asked)
    print(f"{asked} {state.status} {state.message}".strip())
    return int(state.status == "FAILED")


def build_parser() -> argparse.ArgumentParser:
    """The options of the verb; what stands behind the job's name is the job's."""
    parser = argparse.ArgumentParser(
        prog="metro-ray submit",
        usage="%(prog)s [--address URL] [--id NAME] [--no-wait] JOB [flags of the job ...]\n"
        "       %(prog)s [--address URL] --status ID | --follow ID | --stop ID",
        description="Run jobs/JOB.py of this folder on a Ray cluster, show what it prints and end "
        "with its exit status. The folder is sent without what .rayignore and .gitignore name. "
        "Ctrl-C leaves the job running. The cluster's token is taken from RAY_AUTH_TOKEN.",
    )
    parser.add_argument("job", nargs="?", help="name of a job, such as train_body")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="the job's own")
    parser.add_argument("--address", metavar="URL", help="dashboard; or RAY_API_SERVER_ADDRESS")
    parser.add_argument("--id", metavar="NAME", help="name of the job on the cluster")
    parser.add_argument("--no-wait", action="store_true", help="print the job's name and end")
    parser.add_argument("--status", metavar="ID", help="how a job stands")
    parser.add_argument("--follow", metavar="ID", help="what a job prints, until it ends")
    parser.add_argument("--stop", metavar="ID", help="ask a job to save and end")
    return parser


def _command(job: str, flags: Sequence[str], folder: Path) -> str:
    """The command of a job in its copy of the folder.

    Raises:
        ConfigError: No such job, or flags that cannot work there.
    """
    name = job.removeprefix(f"{_FOLDER}/").removesuffix(".py")
    known = sorted(path.stem for path in (folder / _FOLDER).glob("*.py"))
    if name not in known:
        there = f"it has: {', '.join(known)}" if known else "go to the project's folder first"
        raise ConfigError(f"no job {name} in {folder / _FOLDER}; {there}")
    if any(has_secret(flag) for flag in flags):
        raise ConfigError(
            "a flag is a URL with a password or key in it, which everyone who may see the "
            "cluster's jobs could read; give it without, and the credentials to the nodes"
        )
    if not {"-h", "--help"} & set(flags):
        _require_lasting_output(name, flags)
    return shlex.join(["python", f"{_FOLDER}/{name}.py", *flags])


def _require_lasting_output(name: str, flags: Sequence[str]) -> None:
    """Refuse what the job would refuse, and results in a folder that Ray deletes some day."""
    task, _, kind = name.partition("_")
    if kind not in ("body", "hand") or task not in ("train", "eval", "predict", "tune"):
        return
    from metro_ray.config.cli import parse_given, parse_train
    from metro_ray.config.sweep_cli import parse_tune

    if task == "tune":
        sweep = parse_tune(kind, flags)
        if sweep.dry_run:  # lists trials and writes nothing
            return
        output = sweep.base.run.output_dir
    elif task == "train":
        output = parse_train(kind, flags).run.output_dir
    else:
        output = parse_given(kind, flags, task).get("run.output_dir", "")
    if not Path(output).is_absolute():
        given = f"run.output_dir is {output}" if output else "run.output_dir is not given"
        raise ConfigError(
            f"{given}: the job runs in a copy of this folder which Ray deletes; give an absolute "
            "--run.output_dir on storage that all nodes share"
        )


def _follow(jobs: Jobs, job_id: str) -> int:
    def write(text: str) -> None:
        print(text, end="", flush=True)

    try:
        state = jobs.follow(job_id, write)
    except KeyboardInterrupt:
        print(
            f"\njob {job_id} runs on. metro-ray submit --follow {job_id} shows it again, "
            f"metro-ray submit --stop {job_id} ends it",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(f"job {job_id} {state.status}", file=sys.stderr)
    return state.shell_status
