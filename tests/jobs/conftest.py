"""One head node for all tests of jobs."""

import pytest
from ray_head import Head


@pytest.fixture(scope="session")
def head():
    started = Head()
    try:
        started.wait()
        yield started
    finally:
        started.stop()
