"""Rows are decoded on the machine of the rank that wants them, and elsewhere when it is busy."""

import numpy as np
import pytest

from metro_ray.cluster.blocks import KEY, RowReader, store_reader
from metro_ray.cluster.resources import NodeResources, plan_resources
from metro_ray.cluster.stream import BatchStream, StreamSettings, configure_ray_data
from metro_ray.training.data_source import make_transform, open_split

from .ranks import SPEC

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class _WhereRead:
    """Reads rows; their keys are the machine on which that was done."""

    def __init__(self, reader):
        self.reader = reader

    def block(self, entries, epoch):
        import ray

        node = ray.get_runtime_context().get_node_id()
        block = self.reader.block(entries, epoch)
        return {**block, KEY: np.array([node] * len(entries), dtype=object)}

    def row_bytes(self):
        return self.reader.row_bytes()


def read_stream(config, plan, rows):
    """In an actor: this machine, and the machine that decoded each row of a stream."""
    import ray

    dataset = open_split(config, SPEC, "train")
    reader = _WhereRead(RowReader(dataset, make_transform(config, SPEC, train=True)))
    stored = store_reader(reader)
    configure_ray_data(plan, stored.row_bytes, config.data.block_rows)
    settings = StreamSettings(
        block_rows=config.data.block_rows,
        concurrent_tasks=plan.concurrent_read_tasks,
        prefetch_batches=2,
        task_cpus=plan.data_task_cpus,
        pin_memory=False,
        stall_s=60.0,
    )
    stream = BatchStream(stored, rows, epoch=0, batch_size=4, settings=settings)
    nodes = [key for loaded in stream for key in loaded.batch.keys]
    return ray.get_runtime_context().get_node_id(), nodes


def machines():
    import ray

    return [node["NodeID"] for node in ray.nodes()]


def read_of_ranks(config, nodes, per_machine, cpus):
    """`per_machine` ranks that hold `cpus` on each machine read at the same time."""
    import ray

    plan = plan_resources([NodeResources(3.0)] * 2, config)
    reading = ray.remote(read_stream)
    tasks = [
        reading.options(num_cpus=cpus, label_selector={"ray.io/node-id": node}).remote(
            config, plan, np.arange(40)
        )
        for node in nodes
        for _ in range(per_machine)
    ]
    return ray.get(tasks, timeout=120)


def test_a_rank_reads_on_its_own_machine_while_that_has_a_free_cpu(two_machines, make_config):
    config = make_config(**{"scaling.train_workers": 1, "scaling.cpus_per_worker": 1.0})
    for machine in machines():
        [(here, nodes)] = read_of_ranks(config, [machine], 1, 1.0)
        assert here == machine
        assert nodes == [here] * 40


def test_a_machine_without_a_free_cpu_has_its_rows_read_by_another(two_machines, make_config):
    config = make_config(**{"scaling.train_workers": 1, "scaling.cpus_per_worker": 3.0})
    [(here, nodes)] = read_of_ranks(config, machines()[:1], 1, 3.0)
    assert here == machines()[0]
    assert len(nodes) == 40
    assert here not in nodes


def test_ranks_of_both_machines_read_where_they_are(two_machines, make_config):
    config = make_config(**{"scaling.train_workers": 4, "scaling.cpus_per_worker": 1.0})
    for here, nodes in read_of_ranks(config, machines(), 2, 1.0):
        assert len(nodes) == 40
        assert nodes.count(here) >= 30
