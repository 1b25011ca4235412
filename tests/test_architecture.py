"""The house rules: what imports what, and that importing costs nothing."""

import pkgutil
import subprocess
import sys

import metro_ray

_CLUSTER_ROOMS = ("metro_ray.cluster", "metro_ray.serve", "metro_ray.cli")


def _modules() -> list[str]:
    found = pkgutil.walk_packages(metro_ray.__path__, "metro_ray.", onerror=lambda name: None)
    return [module.name for module in found]


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_core_rooms_import_without_ray():
    core = [name for name in _modules() if not name.startswith(_CLUSTER_ROOMS)]
    assert len(core) > 30
    block = "import sys; sys.modules['ray'] = sys.modules['fastapi'] = None\n"
    done = _run(block + "".join(f"import {name}\n" for name in core))
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_neither_torch_nor_ray():
    code = "import sys, metro_ray; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = _run(code)
    assert done.stdout.split() == ["False", "False"]


def test_no_module_starts_anything_on_import():
    """Importing every core module leaves no thread and no Ray or TensorBoard process behind."""
    core = [name for name in _modules() if not name.startswith(_CLUSTER_ROOMS)]
    code = "import threading\n" + "".join(f"import {name}\n" for name in core)
    done = _run(code + "print(threading.active_count())")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "1"


def test_what_reads_rows_imports_no_torch():
    """Read tasks run in processes of their own; torch would cost each of them seconds to start."""
    rooms = "metro_ray.data, metro_ray.data.transform, metro_ray.data.dataset, metro_ray.bodies"
    done = _run(f"import sys, {rooms}; print('torch' in sys.modules)")
    assert done.stdout.split() == ["False"], done.stderr
