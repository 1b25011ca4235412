import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)

PROGRAM = """
import resource, threading
import torch
from metro_ray.training.heap import keeping_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    torch.ones(5, 3_000_000).sum(), [torch.ones(1_500_000) for _ in range(30)]

def faults_of_a_step():
    before = faults()
    step()
    return faults() - before

def resident_mib():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * resource.getpagesize() / 2**20

def main():
    step()
    print(faults_of_a_step())
    before = resident_mib()
    with keeping_freed_memory(torch.device("cpu")):
        for _ in range(3):
            step()
        print(faults_of_a_step())
    print(resident_mib() - before)

if {in_thread}:
    thread = threading.Thread(target=main)  # as Ray's training workers do
    thread.start()
    thread.join()
else:
    main()
"""


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_step_takes_what_the_last_one_freed(in_thread):
    program = PROGRAM.replace("{in_thread}", str(in_thread))
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    without, kept, grown_mib = map(float, done.stdout.split())
    assert kept < 0.05 * without
    assert grown_mib < 100, "of the 240 MiB that the step needs"
