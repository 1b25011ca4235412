"""How many trials run at a time: what is given out fits, what is refused is refused in a sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_ray.cluster.resources import NodeResources, local_node, plan_resources
from metro_ray.cluster.tune_plan import SweepPlan, concurrent_trials, share, with_ranks
from metro_ray.config.load import load_config
from metro_ray.errors import ResourceError

GIB = 2**30


def config(device="auto", workers=None, loaders=4):
    overrides = {
        "run.device": device,
        "scaling.train_workers": workers,
        "data.loader_workers": loaders,
    }
    return load_config("body", overrides=overrides)


def count(nodes, base, *, wanted=None, trials=100, each=2 * GIB, memory=None):
    return concurrent_trials(
        nodes,
        base,
        wanted=wanted,
        num_trials=trials,
        trial_bytes=each,
        memory_bytes=memory,
    )


@settings(max_examples=200, deadline=None)
@given(
    nodes=st.lists(
        st.builds(
            NodeResources, cpus=st.integers(1, 64).map(float), gpus=st.integers(0, 8).map(float)
        ),
        min_size=1,
        max_size=4,
    ),
    device=st.sampled_from(["auto", "cpu"]),
    workers=st.one_of(st.none(), st.integers(1, 12)),
    wanted=st.one_of(st.none(), st.integers(1, 12)),
    trials=st.integers(1, 20),
    loaders=st.integers(0, 8),
)
def test_all_trials_together_fit_the_cluster(nodes, device, workers, wanted, trials, loaders):
    base = config(device, workers, loaders)
    ranks = workers or 1
    refusal = None
    try:
        concurrent, limit = count(nodes, base, wanted=wanted, trials=trials)
        plan = plan_resources(nodes, with_ranks(base, concurrent * ranks))
    except ResourceError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal
        return
    trial = share(plan, concurrent, ranks, len(nodes))
    assert 1 <= concurrent <= max(trials, 1)
    assert limit
    assert wanted is None or concurrent <= wanted
    cpus, gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    assert trial.train_workers == ranks
    assert concurrent * ranks * trial.gpus_per_worker <= gpus
    held = concurrent * ranks * trial.cpus_per_worker
    assert held + trial.data_task_cpus <= cpus + 1e-6, "a read task runs beside all ranks"


@pytest.mark.parametrize(("workers", "at_a_time"), [(None, 2), (1, 2), (2, 1)])
def test_two_cores_run_as_many_trials_as_they_have_ranks_for(workers, at_a_time):
    base = config("cpu", workers)
    concurrent, _ = count([NodeResources(2.0)], base)
    assert concurrent == at_a_time
    ranks = workers or 1
    node = local_node(with_ranks(base, concurrent * ranks), usable_cpus=2, gpus=0)
    plan = plan_resources([node], with_ranks(base, concurrent * ranks))
    trial = share(plan, concurrent, ranks, 1)
    assert (trial.train_workers, trial.runs_per_machine) == (ranks, at_a_time)
    left = node.cpus - concurrent * ranks * trial.cpus_per_worker
    assert left >= concurrent * ranks * trial.data_task_cpus, "no trial's reading waits for another"
    assert str(at_a_time) in SweepPlan(concurrent=concurrent, trial=trial, limit="x").text


def test_gpus_count_where_there_are_some():
    nodes = [NodeResources(16.0, 4.0), NodeResources(16.0, 4.0)]
    assert count(nodes, config(workers=2))[0] == 4
    assert count(nodes, config(workers=3))[0] == 2
    plan = plan_resources(nodes, with_ranks(config(), 8))
    assert share(plan, 8, 1, 2).runs_per_machine == 4


def test_memory_limits_trials_on_cpus():
    concurrent, limit = count([NodeResources(16.0)], config("cpu"), each=6 * GIB, memory=24 * GIB)
    assert concurrent == 4
    assert "24 GiB" in limit
    assert count([NodeResources(4.0)], config("cpu"), each=90 * GIB, memory=24 * GIB)[0] == 1


def test_fewer_trials_than_places():
    assert count([NodeResources(16.0)], config("cpu"), trials=3) == (3, "3 trial(s) to run")


@pytest.mark.parametrize(
    ("nodes", "base", "wanted", "words"),
    [
        ([NodeResources(2.0)], config("cpu", 3), None, "a trial of 3 ranks needs 3 CPU"),
        ([NodeResources(8.0, 1.0)], config(workers=2), None, "needs 2 GPU"),
        ([NodeResources(2.0)], config("cpu"), 4, "4 trials at a time, but there is place for 2"),
    ],
)
def test_the_impossible_is_refused_in_a_sentence(nodes, base, wanted, words):
    with pytest.raises(ResourceError, match=words) as caught:
        count(nodes, base, wanted=wanted)
    assert "\n" not in str(caught.value)
