"""Whatever waits goes together, cancelled work is left out, errors reach their callers."""

import asyncio

import pytest

from metro_ray.serve.batcher import Batcher


def run(main):
    return asyncio.run(asyncio.wait_for(main, 10))


class Doubling:
    """Doubles numbers, one batch at a time, when it is let."""

    def __init__(self):
        self.batches = []
        self.free = asyncio.Event()

    async def __call__(self, items):
        self.batches.append(items)
        await self.free.wait()
        if any(item < 0 for item in items):
            raise ValueError("negative")
        return [2 * item for item in items]


def test_all_that_comes_while_a_batch_runs_is_the_next_batch():
    async def main():
        double = Doubling()
        batcher = Batcher(double, 4)
        tasks = [asyncio.create_task(batcher.submit(0))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(batcher.submit(number)) for number in range(1, 7)]
        await asyncio.sleep(0.01)
        double.free.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
        assert double.batches == [[0], [1, 2, 3, 4], [5, 6]]

    run(main())


def test_a_first_item_waits_a_moment_for_others():
    async def main():
        double = Doubling()
        double.free.set()
        batcher = Batcher(double, 4, wait_s=0.05)
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(batcher.submit(2))
        assert await asyncio.gather(first, second) == [2, 4]
        assert double.batches == [[1, 2]]

    run(main())


def test_cancelled_items_are_not_computed():
    async def main():
        double = Doubling()
        batcher = Batcher(double, 1)
        tasks = [asyncio.create_task(batcher.submit(number)) for number in range(3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        await asyncio.sleep(0.01)
        double.free.set()
        assert await tasks[0] == 0
        assert await tasks[2] == 4
        assert double.batches == [[0], [2]]

    run(main())


def test_an_error_reaches_its_batch_and_no_other():
    async def main():
        double = Doubling()
        double.free.set()
        batcher = Batcher(double, 1)
        bad, good = (asyncio.create_task(batcher.submit(number)) for number in (-1, 1))
        assert await good == 2
        with pytest.raises(ValueError, match="negative"):
            await bad

    run(main())
