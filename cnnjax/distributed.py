"""Several processes, on one machine or many, that run one program together by JAX's distributed runtime.

All run the same code in step, each with its own devices. Only process 0 reads and writes a run's folder; it
tells the others what it found there, or what failed (`on_process_zero`).
"""

import functools
import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnnjax.errors import UserError

CHUNK = 2**20  # bytes; of one size, so that one program sends messages of any length

T = TypeVar("T")


def first() -> bool:
    """Whether this is process 0, or the only one."""
    return jax.process_index() == 0


def on_process_zero(act: Callable[[], T]) -> T:
    """Call `act` in process 0 only; return its result, or raise its UserError or OSError, in all."""
    if jax.process_count() == 1:
        return act()
    value, error = None, None
    if first():
        try:
            value = act()
        except (UserError, OSError) as raised:
            error = raised
    value, error = _from_first((value, error))
    if error is not None:
        raise error
    return value


def _from_first(value: Any) -> Any:
    sent = pickle.dumps(value) if first() else b""
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(sent))))
    received = bytearray()
    for start in range(0, size, CHUNK):
        chunk = np.zeros(CHUNK, np.uint8)
        part = np.frombuffer(sent[start : start + CHUNK], np.uint8)
        chunk[: len(part)] = part
        received += multihost_utils.broadcast_one_to_all(chunk).tobytes()
    return pickle.loads(received[:size])


def check_joined() -> None:
    """Raise UserError if the launcher started several processes and this one has not joined the others."""
    several = os.environ.get("CNNJAX_PROCESSES", "1") != "1" or os.environ.get("CNNJAX_COORDINATOR") == "auto"
    if several and not jax.distributed.is_initialized():
        raise UserError(
            "cnnjax.launch started several processes, which have not joined each other: "
            "do the script's work inside `with joined():`, by `from cnnjax.launch import joined`"
        )


def check_spans_processes(mesh: Mesh) -> None:
    """Raise UserError unless every process has devices of the mesh."""
    if without := set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}:
        raise UserError(
            f"a mesh of {mesh.size} of the {jax.device_count()} devices leaves process {min(without)} "
            "without any: take more devices or fewer processes"
        )


def place(tree: Any, sharding: Any) -> Any:
    """Put host arrays, the same in all processes, on the devices by `sharding`, one or a tree of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda array, own: jax.make_array_from_callback(array.shape, own, lambda index: array[index]),
        tree,
        jax.tree.broadcast(sharding, tree),
    )


def fetch(tree: Any) -> Any:
    """Get arrays on the devices as host arrays; every process gets all of them."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.tree.map(
        lambda array: (
            np.asarray(array)
            if array.is_fully_replicated or array.is_fully_addressable
            else multihost_utils.process_allgather(array, tiled=True)
        ),
        tree,
    )


def largest(number: int) -> jax.Array:
    """The largest of the processes' numbers, as a scalar on the devices; does not wait for it."""
    divided, find = _largest()
    own = np.full(jax.local_device_count(), number, np.int32)
    return find(jax.make_array_from_process_local_data(divided, own))


@functools.cache
def _largest() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    everywhere = Mesh(np.array(jax.devices()), ("all",))
    whole = NamedSharding(everywhere, PartitionSpec())
    return NamedSharding(everywhere, PartitionSpec("all")), jax.jit(jnp.max, out_shardings=whole)
