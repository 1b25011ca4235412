"""A service under load: throughput, what HTTP adds, overload, a killed replica, changed weights.

    python benchmarks/serve.py --out benchmarks/results/serve.json
    python benchmarks/serve.py --only small,overload --minutes 2

`small` (a demo network) and `full` (HRNet-W64, METRO's transformer) compare, side by side: the bare
network as it is served, the same through HTTP with one and with 16 clients, and a plain FastAPI
service around the float32 network. Each runs in processes of its own, one after the other; the
clients of a measurement are one light process (`serve_load.py`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from about import about, save
from runtimes import write_checkpoint
from serve_parts import bare, kill, naive, overload, swap, through_http, write_photo

SMALL = {
    "model.arch": "hrnet-w18-small",
    "model.num_hidden_layers": 1,
    "model.input_feat_dim": (2051, 64, 64),
    "model.hidden_feat_dim": (64, 64, 64),
    "model.num_attention_heads": 2,
}
NETWORKS = {"small": SMALL, "full": {"model.arch": "hrnet-w64"}}
PARTS = ("small", "full", "overload", "kill", "swap")
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def compare(name: str, folder: Path, arguments) -> dict[str, object]:
    """Bare network, HTTP and the plain service side by side."""
    checkpoint = folder / name
    parts = {what: child(f"{what}:{name}", folder, arguments) for what in ("bare", "http", "naive")}
    network, http, plain = parts.values()
    sizes = [int(size) for size in network if size.isdigit()]
    nearest = min(sizes, key=lambda size: abs(size - http["mean_batch"]))
    assert checkpoint.exists()
    return {
        **parts,
        "http_over_bare_network": round(http["images_per_second"] / network[str(nearest)], 3),
        "at_batch": nearest,
        "one_client_more_ms": round(http["one_client_ms"]["p50"] - network["one_ms"], 1),
        "times_plain_service": {
            way: round(http["images_per_second"] / value, 2) for way, value in plain.items()
        },
    }


def child(part: str, folder: Path, arguments):
    """A part in a process of its own."""
    print(f"{part} ..", file=sys.stderr, flush=True)
    options = ("precision", "threads", "max_batch", "seconds", "minutes")
    given = [x for name in options for x in (f"--{name}", str(getattr(arguments, name)))]
    out = folder / "part.json"
    command = [sys.executable, __file__, "--one", part, "--folder", folder, "--out", out, *given]
    environment = os.environ | ENVIRONMENT
    log = folder / "log.txt"  # of the service too, with a line for each request
    with log.open("wb") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{log.read_text()[-4000:]}")
    return json.loads(out.read_text())


def run_one(part: str, folder: Path, arguments):
    what, _, name = part.partition(":")
    if what == "bare":
        return bare(folder / name, arguments)
    if what == "http":
        return through_http(folder / name, folder, arguments)
    if what == "naive":
        return naive(folder / name, folder, arguments)
    return {"overload": overload, "kill": kill, "swap": swap}[what](folder, arguments)


def prepare(folder: Path, parts) -> None:
    """Networks of random weights under short names, and the photo."""
    write_photo(folder / "photo.jpg")
    wanted = {"small": (SMALL, 0), "other": (SMALL, 1), "full": (NETWORKS["full"], 0)}
    for name, (overrides, seed) in wanted.items():
        if name != "full" or "full" in parts:
            made = write_checkpoint(folder / f"{name}-run", overrides, seed)
            (folder / name).symlink_to(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--precision", default="bf16", help="of what is served")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--max_batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12, help="of a measurement")
    parser.add_argument("--minutes", type=float, default=10, help="of overload")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        save(run_one(arguments.one, arguments.folder, arguments), arguments.out)
        return
    parts = arguments.only.split(",")
    found: dict[str, object] = {
        "machine": about("ray", "torch", "fastapi", "uvicorn"),
        "settings": {"precision": arguments.precision, "threads": arguments.threads},
    }
    with tempfile.TemporaryDirectory(prefix="metro-serve-") as name:
        folder = Path(name)
        prepare(folder, parts)
        for part in parts:
            if part in NETWORKS:
                found[part] = compare(part, folder, arguments)
            else:
                found[part] = child(part, folder, arguments)
            print(json.dumps(found[part]), file=sys.stderr, flush=True)
    save(found, arguments.out)


if __name__ == "__main__":
    main()
