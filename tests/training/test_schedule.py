import itertools

import pytest

from metro_ray.training.schedule import learning_rate, metro_epoch


def rates(epochs, steps_per_epoch, base_lr=1e-4):
    steps = range(1, epochs * steps_per_epoch + 1)
    return [
        learning_rate(s, base_lr=base_lr, epochs=epochs, steps_per_epoch=steps_per_epoch)
        for s in steps
    ]


def test_drop_comes_one_step_before_the_second_half():
    got = rates(epochs=4, steps_per_epoch=5)
    assert got[:9] == [1e-4] * 9
    assert got[9:19] == pytest.approx([1e-5] * 10, rel=1e-12)


def test_last_step_of_a_run_has_a_hundredth():
    for epochs in (1, 2, 5):
        assert rates(epochs, 3)[-1] == pytest.approx(1e-6, rel=1e-12)


def test_epoch_number_counts_completed_epochs():
    assert [metro_epoch(s, 3) for s in range(1, 8)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("step", "steps_per_epoch"), [(0, 3), (1, 0)])
def test_counts_from_one(step, steps_per_epoch):
    with pytest.raises(ValueError, match="count from 1"):
        metro_epoch(step, steps_per_epoch)


def cosine(step, warmup_steps=0):
    return learning_rate(
        step,
        base_lr=2.0,
        epochs=2,
        steps_per_epoch=10,
        schedule="cosine",
        warmup_steps=warmup_steps,
    )


def test_cosine_falls_from_the_whole_rate_to_nearly_zero():
    rates = [cosine(step) for step in range(1, 21)]
    assert rates[0] == 2.0
    assert rates[10] == pytest.approx(1.0)  # ten of twenty steps are done
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize("schedule", ["metro", "cosine"])
def test_warm_up_rises_step_by_step(schedule):
    rates = [
        learning_rate(
            step, base_lr=1.0, epochs=4, steps_per_epoch=50, schedule=schedule, warmup_steps=4
        )
        for step in range(1, 6)
    ]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0]
