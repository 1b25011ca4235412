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
