"""Several ranks as threads of the test's process."""

import threading
import time

from metro_ray.bodies.spec import get_spec
from metro_ray.cluster.data import RayDataSource

SPEC = get_spec("anny_body")


class Ranks:
    """Ranks that each have a source of their own; `slow` takes its time with every batch."""

    def __init__(self, config, plan, world_size, slow=None):
        self.slow = slow
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size)
        self.gathered = [None] * world_size
        self.sources = [
            RayDataSource(
                config,
                SPEC,
                plan,
                rank=rank,
                world_size=world_size,
                gather=lambda value, rank=rank: self.gather(rank, value),
            )
            for rank in range(world_size)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for source in self.sources:
            source.close()

    def gather(self, rank, value):
        self.gathered[rank] = value
        self.barrier.wait(timeout=60)
        everything = list(self.gathered)
        self.barrier.wait(timeout=60)
        return everything

    def run(self, what, stop_after=None):
        """Batches of every rank from `what(source)`; `stop_after` so many of each."""
        results = [None] * self.world_size

        def consume(rank):
            taken, batches = [], what(self.sources[rank])
            while len(taken) != stop_after and (batch := next(batches, None)) is not None:
                taken.append(batch)
                if rank == self.slow:
                    time.sleep(0.2)
            batches.close()
            results[rank] = taken

        threads = [
            threading.Thread(target=consume, args=(rank,)) for rank in range(self.world_size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert all(result is not None for result in results)
        return results


def counted_rows(results):
    """Rows that count of all ranks, in ascending order; one that came twice is there twice."""
    return sorted(int(r) for batches in results for b in batches for r in b.row_id[b.valid])
