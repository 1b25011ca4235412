"""Gauges of a run reach the port that Prometheus reads."""

import time
import urllib.request

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def exported():
    import ray

    [port] = {node["MetricsExportPort"] for node in ray.nodes()}
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()


def test_what_rank_0_reports_can_be_scraped(ray_cluster):
    import ray

    @ray.remote(num_cpus=0)
    class Rank:
        def __init__(self):
            from metro_ray.cluster.gauges import RunGauges

            self.gauges = RunGauges("a_run")

        def report(self):
            self.gauges.set({"step": 7.0, "train/images_per_second": 42.5, "train/other": 1.0})

    rank = Rank.remote()
    deadline = time.monotonic() + 120
    lines = []
    while not lines and time.monotonic() < deadline:
        ray.get(rank.report.remote())
        lines = [
            line
            for line in exported().splitlines()
            if line.startswith("ray_metro_ray_images_per_second{") and 'run="a_run"' in line
        ]
        time.sleep(1)
    assert lines
    assert float(lines[0].rpartition(" ")[2]) == 42.5
