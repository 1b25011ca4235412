"""What every test may use: the --goldens option, the recipe of synthetic tensors, stand-in body models."""

import os
import signal
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DEFAULT_GOLDENS = TESTS / "goldens"

# Parallel test processes share the cores; one thread each is faster than all of them fighting.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shells start what runs in the background with Ctrl-C ignored, and programs inherit that; some tests
# send it to programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `import recipe` and `import formulas` work whatever folder pytest is started from.
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))


def pytest_addoption(parser):
    parser.addoption(
        "--goldens",
        type=Path,
        default=DEFAULT_GOLDENS,
        metavar="DIR",
        help="folder with subfolders model/ and data/ to test against (default: tests/goldens)",
    )


@pytest.fixture(scope="session")
def assets_dir(tmp_path_factory):
    """Folder with licence-free stand-ins of SMPL, MANO and METRO's regressors and sampling files."""
    import recipe

    folder = tmp_path_factory.mktemp("assets")
    recipe.write_assets(folder)
    return folder
