"""What stands beside every measurement: hardware, load, versions."""

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
