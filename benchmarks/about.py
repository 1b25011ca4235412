"""What stands beside every measurement, and where it goes."""

import json
import os
import platform
from importlib import metadata
from pathlib import Path


def about(*packages: str) -> dict[str, object]:
    """The machine, its load of the last minute, and versions of Python and of `packages`."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def save(result: dict[str, object], out: Path | None) -> None:
    """Print a result and write it to `out`, unless that is None."""
    text = json.dumps(result, indent=2)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
