"""deploy/grafana: every number that it draws is one that a run exports, and the other way round."""

import json
import re
from pathlib import Path

from metro_ray.cluster.gauges import GAUGES
from metro_ray.training.interval import Interval, merged_values

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "metro-ray.json"


def test_the_dashboard_draws_what_runs_export():
    dashboard = json.loads(FILE.read_text())
    drawn = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            drawn |= set(re.findall(r"ray_(metro_ray_\w+)", target["expr"]))
    assert drawn == {name for name, _ in GAUGES.values()}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_numbers_of_training_are_those_that_runs_report():
    interval = Interval(num_steps=1, num_images=4, seconds=1.0, losses={"loss": 4.0}, weight=4)
    reported = {f"train/{name}" for name in merged_values([interval])}
    wanted = {key for key in GAUGES if key.startswith("train/")}
    assert wanted <= reported
