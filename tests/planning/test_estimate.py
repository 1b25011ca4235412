"""The arithmetic of a plan: exact in simple cases, and in the right direction everywhere."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_ray.planning.estimate import Load, Site, estimate
from metro_ray.planning.work import StepWork

SITE = Site(
    gpus=1,
    gpus_per_node=8,
    cpus_per_gpu=11,
    images_per_second=100.0,
    rate_source="given",
    nvlink_gb_s=100,
    network_gb_s=10,
    storage_gb_s=1,
    price=2.0,
    overlap=0.5,
)
LOAD = Load(
    rows=36_000,
    epochs=10,
    batch=10,
    row_ms=10.0,
    row_kb=100,
    work=StepWork(flops=1e9, parameters=250_000_000),
)


def test_one_device_takes_what_computing_takes():
    done = estimate(LOAD, SITE)
    assert done.compute_s == pytest.approx(0.1)
    assert done.all_reduce_s == 0
    assert done.decode_s == pytest.approx(0.01)
    assert done.read_s == pytest.approx(0.001)
    assert (done.steps, done.hours) == (36_000, pytest.approx(1.0))
    assert done.dollars == pytest.approx(2.0)
    assert done.bottleneck == "compute"
    assert done.efficiency == pytest.approx(1.0)
    assert done.cpus_per_gpu_needed == pytest.approx(2.0)


def test_machines_add_up_gradients_over_the_network_between_them():
    inside = estimate(LOAD, replace(SITE, gpus=8))
    assert inside.all_reduce_s == pytest.approx(2 * 7 / 8 * 1e9 / 100e9)
    assert inside.exposed_s == 0
    between = estimate(LOAD, replace(SITE, gpus=16))
    assert between.all_reduce_s == pytest.approx(2 * 15 / 16 * 1e9 / 10e9)
    assert between.exposed_s == pytest.approx(0.1875 - 0.05)
    assert between.bottleneck == "gradients"
    assert between.efficiency == pytest.approx(0.1 / (0.1 + 0.1375))


@pytest.mark.parametrize(
    ("changes", "bottleneck"),
    [({"cpus_per_gpu": 1.5}, "decoding"), ({"storage_gb_s": 0.005}, "storage")],
)
def test_a_run_goes_at_the_pace_of_its_slowest_part(changes, bottleneck):
    done = estimate(LOAD, replace(SITE, **changes))
    assert done.bottleneck == bottleneck
    slowest = {"decoding": done.decode_s, "storage": done.read_s}[bottleneck]
    assert done.images_per_second == pytest.approx(LOAD.batch / slowest)
    assert done.efficiency < 1


def test_a_core_that_computes_decodes_too():
    done = estimate(LOAD, replace(SITE, cpus_per_gpu=1))
    assert done.images_per_second == pytest.approx(10 / (0.1 + 0.1))
    for row_ms, bottleneck in ((11, "decoding"), (9, "compute")):
        done = estimate(replace(LOAD, row_ms=row_ms), replace(SITE, cpus_per_gpu=1))
        assert done.bottleneck == bottleneck


def test_accumulated_batches_share_one_exchange_of_gradients():
    site = replace(SITE, gpus=16)
    done = estimate(replace(LOAD, batch=40, accumulated=4), site)
    assert done.compute_s == pytest.approx(0.4)
    assert done.exposed_s == pytest.approx(0.1875 - 0.05), "hidden by the last batch alone"
    assert done.images_per_second == pytest.approx(16 * 40 / (0.4 + 0.1375))
    assert done.efficiency > estimate(LOAD, site).efficiency


@given(
    gpus=st.integers(1, 4096),
    rate=st.floats(1, 1e4),
    cpus=st.floats(1, 64),
    network=st.floats(1, 400),
    rows=st.integers(1, 10**10),
)
def test_more_of_anything_never_slows_a_device_down(gpus, rate, cpus, network, rows):
    site = replace(
        SITE, gpus=gpus, images_per_second=rate, cpus_per_gpu=cpus + 1, network_gb_s=network
    )
    done = estimate(replace(LOAD, rows=rows), site)
    assert 0 < done.efficiency <= 1 + 1e-9
    assert done.dollars == pytest.approx(done.hours * gpus * site.price)
    for better in ({"cpus_per_gpu": cpus + 2}, {"network_gb_s": network * 2}, {"storage_gb_s": 2}):
        faster = estimate(replace(LOAD, rows=rows), replace(site, **better))
        assert faster.images_per_second >= done.images_per_second * (1 - 1e-9)
