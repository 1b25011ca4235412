"""Dividing a cluster: every plan that is given out can run, everything else is refused in a sentence."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.cluster.resources import NodeResources, local_node, plan_resources
from metro_ray.config.load import load_config
from metro_ray.errors import ResourceError

_NODES = st.lists(
    st.builds(
        NodeResources,
        cpus=st.one_of(st.integers(0, 96).map(float), st.floats(0.1, 8.0)),
        gpus=st.integers(0, 8).map(float),
    ),
    min_size=1,
    max_size=6,
)


def config(device="auto", workers=None, cpus=None, loaders=4, kind="body"):
    return load_config(
        kind,
        overrides={
            "run.device": device,
            "scaling.train_workers": workers,
            "scaling.cpus_per_worker": cpus,
            "data.loader_workers": loaders,
        },
    )


@settings(max_examples=300, deadline=None)
@given(
    nodes=_NODES,
    device=st.sampled_from(["auto", "cuda", "cpu"]),
    workers=st.one_of(st.none(), st.integers(1, 40)),
    cpus=st.one_of(st.none(), st.floats(0.1, 20.0)),
    loaders=st.integers(0, 32),
)
def test_a_plan_fits_the_cluster_or_is_refused_in_one_sentence(
    nodes, device, workers, cpus, loaders
):
    refusal = None
    try:
        plan = plan_resources(nodes, config(device, workers, cpus, loaders))
    except ResourceError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
        assert len(refusal) < 250
        return
    total_cpus, total_gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    assert workers in (None, plan.train_workers)
    assert cpus in (None, plan.cpus_per_worker)
    assert plan.gpus_per_worker * plan.train_workers <= total_gpus
    left = total_cpus - plan.train_workers * plan.cpus_per_worker
    assert left > 0
    assert 0 < plan.data_task_cpus <= 1
    # Wherever the ranks land, a read task finds a node, so no rank waits for ever.
    assert plan.data_task_cpus <= left + 1e-6
    assert 1 <= plan.concurrent_read_tasks <= max(1, loaders)
    if plan.concurrent_read_tasks > 1:
        used = plan.train_workers * plan.concurrent_read_tasks * plan.data_task_cpus
        assert used <= left + 1e-6


def place_greedily(nodes, plan):
    """CPUs left on each node after the ranks are packed onto the first nodes."""
    left = [node.cpus for node in nodes]
    gpus = [node.gpus for node in nodes]
    for _ in range(plan.train_workers):
        for i, _ in enumerate(nodes):
            if left[i] >= plan.cpus_per_worker - 1e-9 and gpus[i] >= plan.gpus_per_worker:
                left[i] -= plan.cpus_per_worker
                gpus[i] -= plan.gpus_per_worker
                break
        else:
            raise AssertionError("a rank has no place")
    return left


@settings(max_examples=200, deadline=None)
@given(nodes=_NODES, workers=st.one_of(st.none(), st.integers(1, 16)))
def test_ranks_and_then_a_read_task_find_a_node(nodes, workers):
    try:
        plan = plan_resources(nodes, config(workers=workers))
    except ResourceError:
        return
    assert max(place_greedily(nodes, plan)) >= plan.data_task_cpus - 1e-6


@pytest.mark.parametrize(
    ("nodes", "given_config", "expected"),
    [
        ([(96, 8)], {}, (8, 1.0, 1, 1.0, 4)),
        ([(96, 8)] * 2, {"workers": 4}, (4, 1.0, 1, 1.0, 4)),
        ([(2, 0)], {}, (1, 1.0, 0, 1.0, 1)),
        ([(2, 0)], {"workers": 2}, (2, 0.5, 0, 0.5, 1)),
        ([(4, 0)], {"loaders": 1}, (1, 2.0, 0, 1.0, 1)),
        ([(4, 0)], {"loaders": 0}, (1, 2.0, 0, 1.0, 1)),
        ([(16, 8)], {"device": "cpu", "workers": 2, "loaders": 8}, (2, 4.0, 0, 1.0, 4)),
        ([(0, 0), (96, 8)], {}, (8, 1.0, 1, 1.0, 4)),
    ],
)
def test_known_clusters(nodes, given_config, expected):
    plan = plan_resources([NodeResources(*node) for node in nodes], config(**given_config))
    assert (
        plan.train_workers,
        plan.cpus_per_worker,
        plan.gpus_per_worker,
        plan.data_task_cpus,
        plan.concurrent_read_tasks,
    ) == expected


@pytest.mark.parametrize(
    ("nodes", "given_config", "words"),
    [
        ([(2, 0)], {"device": "cuda"}, "run.device is cuda, but the cluster has no GPU"),
        ([(96, 8)], {"workers": 9}, "9 ranks with a GPU each, but the cluster has 8"),
        ([(2, 0)], {"workers": 3}, "3 ranks, but the cluster has 2 CPUs"),
        ([(2, 0)], {"cpus": 2.0}, "leave none of the cluster's 2 CPUs"),
        ([(2, 0)], {"workers": 2, "cpus": 1.0}, "leave none of the cluster's 2 CPUs"),
        ([(2, 0), (2, 0)], {"cpus": 3.0}, "no place for 1 rank"),
        ([(0, 8)], {}, "too few for 8 rank"),
        ([(0, 0)], {}, "1 ranks, but the cluster has 0 CPUs"),
    ],
)
def test_impossible_requests_say_why(nodes, given_config, words):
    with pytest.raises(ResourceError, match=words):
        plan_resources([NodeResources(*node) for node in nodes], config(**given_config))


@given(cores=st.integers(1, 64), workers=st.one_of(st.none(), st.integers(1, 64)))
@settings(deadline=None)
def test_a_local_cluster_always_has_room_for_a_task_per_rank_twice(cores, workers):
    """Twice, because the next pass is read while this one is still being trained on."""
    given_config = config(workers=workers)
    if workers is not None and workers > cores:
        with pytest.raises(ResourceError, match=f"{workers} ranks, but this machine has {cores}"):
            local_node(given_config, cores, 0)
        return
    node = local_node(given_config, cores, 0)
    plan = plan_resources([node], given_config)
    left = node.cpus - plan.train_workers * plan.cpus_per_worker
    assert node.cpus >= cores
    assert math.floor(left / plan.data_task_cpus) >= 2 * plan.train_workers


def test_local_gpus_are_counted_unless_the_run_is_on_the_cpu():
    assert local_node(config(), 2, 1) == NodeResources(4, 1)
    assert local_node(config(device="cpu"), 2, 1) == NodeResources(4, 0)
    two = config(workers=2)
    with pytest.raises(ResourceError, match="2 ranks with a GPU each"):
        plan_resources([local_node(two, 2, 1)], two)


def elastic(most, least):
    return load_config(
        "body",
        overrides={
            "run.device": "auto",
            "scaling.train_workers": most,
            "scaling.min_train_workers": least,
        },
    )


@pytest.mark.parametrize(("nodes", "expected"), [(3, 16), (2, 16), (1, 8)])
def test_fewer_ranks_are_taken_where_machines_are_missing(nodes, expected):
    plan = plan_resources([NodeResources(96, 8)] * nodes, elastic(16, 4))
    assert plan.train_workers == expected


def test_less_than_the_least_is_refused():
    with pytest.raises(
        ResourceError, match="asks for 4 ranks with a GPU each, but the cluster has 2"
    ):
        plan_resources([NodeResources(96, 2)], elastic(16, 4))
    with pytest.raises(
        ResourceError, match="asks for 4 ranks with a GPU each, but the cluster has 2"
    ):
        plan_resources([NodeResources(96, 2)], elastic(None, 4))


def test_a_small_machine_takes_the_ranks_that_it_can():
    config = load_config(
        "body",
        overrides={"run.device": "cpu", "scaling.train_workers": 8, "scaling.min_train_workers": 1},
    )
    assert plan_resources([local_node(config, 2, 0)], config).train_workers <= 8
    assert local_node(config, 2, 0).cpus == 8
