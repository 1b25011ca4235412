"""The measurements of `serve.py`; each runs in a process of its own."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
PORT, NAIVE_PORT = 8731, 8732


def write_photo(path: Path) -> Path:
    """640 x 480, as heavy as a phone's picture of that size."""
    y, x = np.mgrid[:480, :640].astype(np.float32)
    waves = np.stack([np.sin(x / 67), np.cos(y / 41), np.sin((x + y) / 93)], axis=2)
    noise = np.random.default_rng(0).normal(0, 8, waves.shape)
    cv2.imwrite(str(path), np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8))
    return path


def load(kind: str, port: int, folder: Path, **options):
    """Answers as `serve_load.py` gives them: [arrival, seconds, status, version]."""
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, HERE / "serve_load.py", kind, "--port", str(port)]
    done = subprocess.run(
        [*command, "--image", folder / "photo.jpg", *given], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def rate(answers) -> float:
    """Good answers a second, from the end of a batch in the first third to the last answer.

    Answers come in batches; the longest pause between two tells where a batch ended.
    """
    ends = sorted(since + taken for since, taken, status, _ in answers if status == 200)
    pauses = [after - end for end, after in pairwise(ends[: 2 + len(ends) // 3])]
    first = max(range(len(pauses)), key=pauses.__getitem__)
    return (len(ends) - 1 - first) / (ends[-1] - ends[first])


def milliseconds(answers, status: int = 200) -> dict[str, float]:
    """Quantiles of the time until an answer of this status."""
    taken = sorted(1e3 * seconds for _, seconds, found, _ in answers if found == status)
    if not taken:
        return {}
    places = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(taken[int(q * (len(taken) - 1))], 1) for name, q in places.items()}


def statuses(answers) -> dict[str, int]:
    found = [status for _, _, status, _ in answers]
    return {str(status): found.count(status) for status in sorted(set(found))}


def settings(arguments, **more):
    threads = arguments.threads
    common = {"cpus": 1, "cpu_threads": threads, "precision": arguments.precision}
    return common | {"max_batch_size": arguments.max_batch} | more


def bare(checkpoint: Path, arguments) -> dict[str, float]:
    """Images a second of the network alone, by batch; and milliseconds of one image."""
    import torch

    from metro_ray.serve.network import ServedNetwork
    from metro_ray.serve.process import keep_freed_memory, limit_threads
    from metro_ray.serve.settings import read_args

    given = {"body": {"checkpoint": str(checkpoint), **settings(arguments)}}
    model = read_args(given).models["body"]
    limit_threads(model)
    keep_freed_memory()
    network = ServedNetwork(checkpoint, "body", model)
    network.warm_up()
    found = {}
    for size in (1, 2, 4, arguments.max_batch):
        crops = np.random.default_rng(0).integers(0, 256, (size, 3, 224, 224), np.uint8)
        taken, end = [], time.perf_counter() + arguments.seconds / 2
        while time.perf_counter() < end or len(taken) < 3:
            start = time.perf_counter()
            network.predict(crops)
            taken.append(time.perf_counter() - start)
        found[str(size)] = round(size / statistics.mean(taken), 2)
        if size == 1:
            found["one_ms"] = round(1e3 * statistics.median(taken), 1)
    return found | {"threads": torch.get_num_threads()}


@contextmanager
def service(checkpoint: Path, arguments, **more):
    """A real service in a Ray session of this process; gives its configuration."""
    from metro_ray.cluster.connect import session
    from metro_ray.serve.settings import read_args
    from metro_ray.serve.start import deploy_config, running

    model = {"checkpoint": str(checkpoint), **settings(arguments, **more)}
    config = deploy_config(read_args({"body": model}), port=PORT)
    with session(6), running(config):
        yield config


def through_http(checkpoint: Path, folder: Path, arguments) -> dict[str, object]:
    """One client, then 16, of a service that has answered some requests before."""
    with service(checkpoint, arguments):
        load("closed", PORT, folder, clients=16, seconds=arguments.seconds / 3)
        one = load("closed", PORT, folder, clients=1, seconds=arguments.seconds)
        before = batch_sizes()
        many = load("closed", PORT, folder, clients=16, seconds=arguments.seconds)
        after = batch_sizes()
    batch = (after[0] - before[0]) / (after[1] - before[1])
    return {
        "one_client_ms": milliseconds(one),
        "images_per_second": round(rate(many), 2),
        "mean_batch": round(batch, 2),
        "ms": milliseconds(many),
        "statuses": statuses([*one, *many]),
    }


def batch_sizes() -> tuple[float, float]:
    """Sum and count of the batch sizes that the service tells of its requests."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics") as answer:
        text = answer.read().decode()
    found = [
        re.search(rf"^metro_batch_size_{what}{{.*}} (.*)$", text, re.M) for what in ("sum", "count")
    ]
    return tuple(0.0 if match is None else float(match[1]) for match in found)


def naive(checkpoint: Path, folder: Path, arguments) -> dict[str, float]:
    """Images a second of the plain service with 16 clients, both of its ways."""
    command = [sys.executable, HERE / "serve_naive.py", checkpoint, "--port", str(NAIVE_PORT)]
    process = subprocess.Popen(command)
    try:
        wait_for(f"http://127.0.0.1:{NAIVE_PORT}/healthz")
        found = {}
        for name, path in (("thread_pool", "/v1/body"), ("one_by_one", "/one")):
            options = {"clients": 16, "seconds": 2 * arguments.seconds, "path": path}
            found[name] = round(rate(load("closed", NAIVE_PORT, folder, **options)), 2)
        return found
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer")


def memory_mb() -> dict[str, float]:
    """Own memory of each process of the service."""
    found: dict[str, float] = {}
    for pid, name in processes().items():
        status = Path(f"/proc/{pid}/status").read_text()
        own = re.search(r"RssAnon:\s+(\d+)", status)
        found[name] = round(found.get(name, 0.0) + int(own[1]) / 1024, 1) if own else 0.0
    return found


def processes() -> dict[int, str]:
    """Processes of Serve on this machine, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        match = re.match(r"ray::(ServeReplica:\w+:(\w+)|ProxyActor|ServeController)", line)
        if match:
            found[int(path.parent.name)] = match[2] or match[1]
    return found


def overload(folder: Path, arguments) -> dict[str, object]:
    """More than it can do for minutes: what is refused, how fast, and what memory does."""
    seconds, samples, stop = 60 * arguments.minutes, [], threading.Event()

    def watch() -> None:
        while not stop.wait(seconds / 20):
            samples.append(memory_mb())

    with service(folder / "small", arguments):
        capacity = rate(load("closed", PORT, folder, clients=16, seconds=arguments.seconds))
        watcher = threading.Thread(target=watch)
        watcher.start()
        answers = load("open", PORT, folder, rate=1.2 * capacity, seconds=seconds)
        stop.set()
        watcher.join()
    return {
        "capacity_per_second": round(capacity, 2),
        "asked_per_second": round(len(answers) / seconds, 2),
        "answered_per_second": round(rate(answers), 2),
        "seconds": seconds,
        "statuses": statuses(answers),
        "answered_ms": milliseconds(answers),
        "refused_ms": milliseconds(answers, 503),
        "memory_mb": {
            "after a tenth": samples[len(samples) // 10],
            "half-way": samples[len(samples) // 2],
            "at the end": samples[-1],
        },
    }


def kill(folder: Path, arguments) -> dict[str, object]:
    """`kill -9` of one of two replicas while four of our clients and four plain ones ask."""
    from metro_ray.serve.client import Client

    image, errors, asked, retries = (folder / "photo.jpg").read_bytes(), [], [], []

    def ask(end: float) -> None:
        with Client(f"http://127.0.0.1:{PORT}", retries=6) as client:
            while time.monotonic() < end:
                try:
                    client.predict_body(image)
                    asked.append(1)
                except Exception as error:  # noqa: BLE001 - counted
                    errors.append(repr(error))
            retries.append(client.retries)

    two = {"min_replicas": 2, "max_replicas": 2}
    with service(folder / "small", arguments, replicas=two, cpu_threads=1):
        end = time.monotonic() + 3 * arguments.seconds
        threads = [threading.Thread(target=ask, args=(end,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        victim = min(replicas())
        timer = threading.Timer(arguments.seconds, os.kill, (victim, signal.SIGKILL))
        timer.start()
        plain = load("closed", PORT, folder, clients=4, seconds=3 * arguments.seconds - 2)
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 60
        while len(replicas()) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        back = len(replicas() - {victim})
    return {
        "our_clients": {"answers": len(asked), "errors": errors, "retries": sum(retries)},
        "plain_clients": {"statuses": statuses(plain), "ms": milliseconds(plain)},
        "replicas_afterwards": back,
    }


def replicas() -> set[int]:
    """Processes that hold the network."""
    return {pid for pid, name in processes().items() if name == "body"}


def swap(folder: Path, arguments) -> dict[str, object]:
    """Other weights and back while eight clients ask."""
    from ray.serve.schema import ServeDeploySchema

    from metro_ray.serve.start import deploy
    from metro_ray.serve.swap import with_choice

    def change(config, checkpoint):
        changed = with_choice(config, "body", {"checkpoint": str(checkpoint)})
        deploy(ServeDeploySchema.model_validate(changed))

    with service(folder / "small", arguments) as config:
        timers = [
            threading.Timer(arguments.seconds, change, (config, folder / "other")),
            threading.Timer(2.5 * arguments.seconds, change, (config, folder / "small")),
        ]
        for timer in timers:
            timer.start()
        answers = load("closed", PORT, folder, clients=8, seconds=4 * arguments.seconds)
        for timer in timers:
            timer.join()
    versions = [version for _, _, status, version in sorted(answers) if status == 200]
    return {
        "statuses": statuses(answers),
        "answers_by_version": {version: versions.count(version) for version in set(versions)},
        "ms": milliseconds(answers),
    }
