"""Check that there is enough memory before using it: a CPU's process would be killed silently."""

from typing import Any

import jax
from jax.sharding import Mesh

from cnnjax.config import Shard
from cnnjax.errors import UserError
from cnnjax.machine import free_memory, return_memory
from cnnjax.mesh import DATA
from cnnjax.training.task import Task

GIB = 2**30


def nbytes(tree: Any) -> int:
    """Bytes of arrays or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free_bytes(mesh: Mesh) -> tuple[int | None, str]:
    """Free memory of one of the mesh's devices, None if it does not report it, and whose memory that is.

    CPU devices share the host's.
    """
    device = mesh.local_devices[0]
    if device.platform == "cpu":
        free = free_memory()
        return (None if free is None else free // len(mesh.local_devices)), "this machine"
    stats = device.memory_stats() or {}
    free = stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    return free, f"each {device.device_kind}"


def check_memory(what: str, compiled: Any, task: Task, mesh: Mesh, gradients: int) -> None:
    """Raise UserError, with a batch that fits, if a compiled step needs more than there is.

    Its working memory, except the `gradients`, grows with the batch.
    """
    memory, (free, where) = compiled.memory_analysis(), free_bytes(mesh)
    if memory is None or free is None:
        return
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    needed = memory.temp_size_in_bytes + results
    if needed > free / 2:
        return_memory()
    if needed <= free:
        return
    by_image = max(1.0, (memory.temp_size_in_bytes - gradients) / task.config.batch_size)
    images = int((free - results - gradients) / by_image)
    fits = mesh.shape[DATA]
    if images < fits:
        advice = "not one image fits: take a smaller network"
    else:
        while 2 * fits <= images:  # powers of two, which leave some room
            fits *= 2
        advice = f"try batch_size={fits}"
    raise UserError(
        f"batch_size={task.config.batch_size}: {what} of {task.name} needs {needed / GIB:.1f} GiB, and "
        f"{where} has {free / GIB:.1f} GiB free: {advice}"
    )


def check_state(state: Any, runs: int, task: Task, mesh: Mesh, shard: Shard) -> None:
    """Raise UserError if the state of this many runs does not fit into memory."""
    free, where = free_bytes(mesh)
    needed = runs * nbytes(state) / (1 if shard == "replicated" else mesh.size)
    if free is not None and needed > free:
        raise UserError(
            f"{task.name} has {nbytes(state.params) / 4:.3g} weights and needs {needed / GIB:.1f} GiB "
            f"with its optimizer, and {where} has {free / GIB:.1f} GiB free: take a smaller network"
        )
