import numpy as np
import pytest

from cnnjax.data.batches import batch_indices
from cnnjax.errors import UserError


@pytest.mark.parametrize(("batch_size", "examples"), [(4, 12), (5, 12), (12, 12), (1, 3), (30, 7), (7, 1)])
def test_every_image_is_seen_once_per_epoch(batch_size, examples):
    epochs = 2 * batch_size  # so that the batches fill them exactly
    batches = [batch_indices(3, step, batch_size, examples) for step in range(2 * examples)]
    assert {batch.shape for batch in batches} == {(batch_size,)}
    assert {batch.dtype for batch in batches} == {np.dtype(np.int32)}
    stream = np.concatenate(batches).reshape(epochs, examples)
    np.testing.assert_array_equal(np.sort(stream, axis=1), np.tile(np.arange(examples), (epochs, 1)))


def test_the_stream_is_the_documented_one():
    stream = np.concatenate([np.random.default_rng([7, epoch]).permutation(10) for epoch in range(4)])
    for step in (8, 0, 3, 2, 9):  # in any order: there is no state
        np.testing.assert_array_equal(batch_indices(7, step, 4, 10), stream[4 * step : 4 * step + 4])


def test_epochs_and_seeds_differ():
    orders = {tuple(batch_indices(seed, step, 20, 20)) for seed in range(3) for step in range(3)}
    assert len(orders) == 9


def test_a_batch_can_be_changed_without_changing_the_next():
    first = batch_indices(0, 0, 5, 5)
    expected = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(batch_indices(0, 0, 5, 5), expected)


@pytest.mark.parametrize("bad", [(0, 0, 0, 5), (0, 0, 5, 0), (0, -1, 5, 5), (-1, 0, 5, 5)])
def test_impossible_arguments(bad):
    with pytest.raises(UserError, match="must be at least 1"):
        batch_indices(*bad)
