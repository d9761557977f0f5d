"""Reading ahead with grain: the only file that imports it."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from cnnjax.machine import usable_cores

READY = 2  # batches on the devices before they are asked for
_THREADS = 16


@contextlib.contextmanager
def reading_ahead(
    read: Callable[[int], Any], numbers: range, workers: int, put: Callable[[Any], Any]
) -> Iterator[Iterator[Any]]:
    """Yield an iterator over `put(read(number))`, in order, computed before they are asked for.

    `read` runs in `workers` processes, or for 0 in one thread per core; `put` runs in one thread of this
    process. The number of waiting results is bounded. What `read` raises is raised here.
    """
    import grain  # it imports jax
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain asks absl for its flags, which nobody parses here
    threads = 1 if workers else min(_THREADS, len(usable_cores()))
    results = (
        grain.MapDataset.range(numbers.start, numbers.stop)
        .map(read)
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    )
    if workers:
        results = results.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(
        grain.experimental.ThreadPrefetchIterDataset(results.map(put), prefetch_buffer_size=READY)
    )
    with contextlib.closing(iterator):
        yield iterator
