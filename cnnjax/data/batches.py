"""Which images make up a batch: a pure function of the seed and the step, so there is no state to save."""

from functools import lru_cache

import numpy as np

from cnnjax.errors import UserError


def batch_indices(seed: int, step: int, batch_size: int, examples: int) -> np.ndarray:
    """Give the indices, int32 `[batch]`, of the images of batch `step`.

    The batches are cut from an endless stream of epochs, each a new permutation of all examples. A batch may
    span epochs: no image is dropped, and each is seen exactly once per epoch.
    """
    if batch_size < 1 or examples < 1 or step < 0 or seed < 0:
        raise UserError(
            f"batch size {batch_size} and number of examples {examples} must be at least 1, "
            f"step {step} and seed {seed} at least 0"
        )
    start, stop = step * batch_size, (step + 1) * batch_size
    pieces = []
    while start < stop:
        epoch, offset = divmod(start, examples)
        pieces.append(_epoch_order(seed, epoch, examples)[offset : offset + stop - start])
        start += len(pieces[-1])
    return np.concatenate(pieces)


@lru_cache(maxsize=16)  # runs that train at once ask in turn
def _epoch_order(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(examples).astype(np.int32)
