"""Equal blocks one after the other, as a loop over depth.

A network's variables have two layouts. By block, each block has its own entry, `stage1_block02`,
`stage1_block03`, ...: `init` returns this layout, and weights are ported, probed and saved in it. Stacked,
the equal blocks of a stage share one entry, `stage1_block02-09`, whose arrays have a leading axis over depth.
`stack` and `unstack` convert, and a network takes either. Only this file knows how these entries are named.

An unrolled program, and the time to compile it, grow with depth. A scanned one does not; with stacked
variables neither do the number of arrays and the optimiser's part of the program.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

LOOPS = ("auto", "scan", "unrolled")
SCANNED_FROM = 16  # equal blocks in a stage; with fewer, the unrolled program compiles fast and runs faster
_STAGE = re.compile(r"stage(\d+)_block[\d-]+")
_BLOCK = re.compile(r"(.+_block)(\d+)")
_STACK = re.compile(r"(.+_block)(\d+)-(\d+)")


class Looped:
    """Marks networks whose equal blocks `repeat` applies as their field `loop` says: they may be stacked."""

    loop: str


def loop_of(network: Any) -> str:
    """How the network goes over its blocks, one of `LOOPS`; "unrolled" for all that are not `Looped`."""
    return network.loop if isinstance(network, Looped) else "unrolled"


def block_names(stage: int, blocks: int, longest: int = 0) -> list[str]:
    """Name the blocks of a stage, `stage1_block01` and so on, with digits for a stage of `longest` blocks."""
    digits = max(2, len(str(max(blocks, longest))))
    return [f"stage{stage}_block{index:0{digits}d}" for index in range(1, blocks + 1)]


def stage_of(name: str) -> int | None:
    """The stage of the block, or of the stacked blocks, called `name`; None if it is something else."""
    match = _STAGE.fullmatch(name)
    return int(match[1]) if match else None


def is_stacked(path: Sequence[Any]) -> bool:
    """Whether the array at `path`, as `jax.tree_util` gives it, has a leading axis over depth."""
    return any(_STACK.fullmatch(str(getattr(entry, "key", ""))) for entry in path)


def is_stack(path: Sequence[str]) -> bool:
    """The same for a path of names."""
    return any(_STACK.fullmatch(name) for name in path)


def repeat(
    parent: nn.Module,
    block: Callable[..., nn.Module],
    names: Sequence[str],
    x: jax.Array,
    loop: str,
    **each: Sequence[float],
) -> jax.Array:
    """Apply the blocks called `names`, equal except for their variables, one after the other.

    Args:
        parent: the network, inside its `__call__`.
        block: makes a block, given `name` or `parent`; a block maps x to an array of the same shape.
        names: the names of these blocks in order, from `block_names`.
        x: input of the first block.
        loop: "unrolled", "scan", or "auto", which scans long stages.
        each: numbers that `block` takes by keyword, one for each block; in a scan they arrive as arrays.
    """
    stacked = _stack_name(names)
    variables = parent.variables
    has_stack = any(stacked in collection for collection in variables.values())
    scan = loop == "scan" or (loop == "auto" and len(names) >= SCANNED_FROM)
    if not names or parent.is_initializing() or not (scan or has_stack):
        for index, name in enumerate(names):
            x = block(name=name, **{field: values[index] for field, values in each.items()})(x)
        return x

    if has_stack:
        blocks = {kind: tree[stacked] for kind, tree in variables.items() if stacked in tree}
    else:
        blocks = {
            kind: _stack([tree[name] for name in names])
            for kind, tree in variables.items()
            if names[0] in tree
        }
    assert parent.scope is not None
    mutable = parent.scope.mutable
    keys = {name: parent.make_rng(name) for name in parent.scope.rngs if name != "params"}

    def body(x: jax.Array, step: tuple[jax.Array, Any, dict[str, jax.Array]]) -> tuple[jax.Array, Any]:
        index, variables, own = step
        rngs = {name: jax.random.fold_in(key, index) for name, key in keys.items()}
        return block(parent=None, **own).apply(variables, x, mutable=mutable or [], rngs=rngs)  # pyright: ignore

    own = {field: jnp.asarray(values) for field, values in each.items()}
    x, new = lax.scan(body, x, (jnp.arange(len(names)), blocks, own), unroll=1 if scan else len(names))
    for kind, tree in new.items():
        for name, value in ({stacked: tree} if has_stack else _split(names, tree)).items():
            parent.put_variable(kind, name, value)
    return x


def stack(tree: Any, at_least: int = 1) -> Any:
    """Stack variables that are by block, or any tree that holds them, such as an optimiser's state.

    Stages with fewer than `at_least` equal blocks stay as they are.
    """

    def convert(entries: dict[str, Any]) -> dict[str, Any]:
        stages: dict[str, list[str]] = {}
        for name in sorted(entries, key=_number):
            match = _BLOCK.fullmatch(name)
            if match and int(match[2]) > 1:  # a stage's first block has its own shape
                stages.setdefault(match[1], []).append(name)
        long = [names for names in stages.values() if len(names) >= at_least]
        stacks = {_stack_name(names): _stack([entries[name] for name in names]) for names in long}
        rest = {name: value for name, value in entries.items() if not any(name in names for names in long)}
        return {**rest, **stacks}

    return _convert(tree, convert)


def stack_for_loop(tree: Any, loop: str) -> Any:
    """Stack `tree`, which is by block, where training with this `loop` scans."""
    return tree if loop == "unrolled" else stack(tree, 1 if loop == "scan" else SCANNED_FROM)


def unstack(tree: Any) -> Any:
    """The inverse of `stack`."""

    def convert(entries: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in entries.items():
            if match := _STACK.fullmatch(name):
                numbers = range(int(match[2]), int(match[3]) + 1)
                names = [f"{match[1]}{number:0{len(match[2])}d}" for number in numbers]
                result.update(_split(names, value))
            else:
                result[name] = value
        return result

    return _convert(tree, convert)


def slice_path(path: tuple[str, ...], index: int) -> tuple[str, ...]:
    """The path, by block, of the slice `index` of the array that is at `path` in the stacked layout."""
    for position, name in enumerate(path):
        if match := _STACK.fullmatch(name):
            block = f"{match[1]}{int(match[2]) + index:0{len(match[2])}d}"
            return (*path[:position], block, *path[position + 1 :])
    raise ValueError(f"{path} is of no stacked block")


def _convert(tree: Any, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Apply `convert` to every dict that holds blocks, wherever it is in the tree."""

    def is_network(node: Any) -> bool:
        return isinstance(node, dict) and any(
            _BLOCK.fullmatch(str(name)) or _STACK.fullmatch(str(name)) for name in node
        )

    return jax.tree.map(lambda node: convert(node) if is_network(node) else node, tree, is_leaf=is_network)


def _number(name: str) -> int:
    match = _BLOCK.fullmatch(name)
    return int(match[2]) if match else 0


def _stack_name(names: Sequence[str]) -> str:
    return f"{names[0]}-{names[-1].rpartition('_block')[2]}" if names else ""


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _split(names: Sequence[str], tree: Any) -> dict[str, Any]:
    return {
        name: jax.tree.map(lambda leaf, index=index: leaf[index], tree) for index, name in enumerate(names)
    }
