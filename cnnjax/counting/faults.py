"""What a compiled step should not have in it."""

import contextlib
import math
import os
import tempfile
from collections.abc import Collection, Iterator

from cnnjax.counting.hlo import Operation, Program

HOST = {"infeed", "outfeed", "send", "recv"}
REMATERIALISED = "Involuntary full rematerialization"


def faults(program: Program, platform: str, parameters: Collection[int]) -> list[str]:
    """What is wrong with a step compiled for `platform`, in words; empty if nothing is.

    An array that is gathered may have as many elements as one of the `parameters`: others are activations.
    """
    found = set()
    for operation, _ in program.everything():
        arrays = operation.results
        if any(array.dtype in ("f64", "c128") for array in arrays):
            found.add("float64")
        if operation.kind in HOST or "callback" in operation.target.lower():
            found.add("host callback")
        if platform != "cpu" and operation.target.startswith("cnnjax"):
            found.add("our CPU code")
        if operation.kind in ("all-gather", "all-gather-start"):
            started = operation.kind.endswith("-start")  # its operands stand before its results
            gathered = arrays[len(arrays) // 2 :] if started else arrays
            if not {math.prod(array.shape) for array in gathered} <= set(parameters):
                found.add("activations are gathered")
    return sorted(found)


def transposes(program: Program, images: int) -> list[Operation]:
    """Launched operations that only bring images [image, height, width, channel] to another layout.

    What tells them from kernels is how many `images` a device has: choose a number that no layer has.
    """
    moving = {"transpose", "copy", "bitcast", "parameter", "convert", "reshape", "fusion"}

    def only_moves(operation: Operation) -> bool:
        kinds = {inner.kind for inner in program.within(operation)}
        return kinds <= moving and bool(kinds & {"transpose", "copy"})

    return [
        operation
        for operation, _ in program.launched()
        if any(
            len(array.shape) == 4 and min(array.shape) > 1 and images in array.shape
            for array in operation.results
        )
        and only_moves(operation)
    ]


@contextlib.contextmanager
def compiler_said() -> Iterator[list[str]]:
    """Gather what XLA writes to stderr inside: there it tells what its partitioner could not do well."""
    said: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said += file.read().splitlines()
