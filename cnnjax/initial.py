"""Variables to start from: another run's, or those in a file of weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from cnnjax.errors import UserError
from cnnjax.interop import load_weights, read_weights
from cnnjax.interop.timm import is_snapshot
from cnnjax.network import Variables
from cnnjax.ops.depth import unstack
from cnnjax.optimizers import path_name
from cnnjax.training.run import read_variables


class Initial(NamedTuple):
    """Given variables, matched with a network's own."""

    variables: dict[str, np.ndarray]
    """Those that are taken, by path such as "params/conv1/kernel"."""
    digest: str
    notes: tuple[str, ...]
    """What is not taken, in a line each."""

    def __call__(self, own: Variables) -> Variables:
        """Replace those of the network's own initial variables that were given."""

        def start(path: Any, leaf: Any) -> Any:
            given = self.variables.get(path_name(path))
            return leaf if given is None else jnp.asarray(given, leaf.dtype)

        return jax.tree.map_with_path(start, own)


def read_initial(path: str | Path, model: str) -> Variables:
    """The variables in a run's folder or in a file of weights for the network called `model`.

    Raises:
        UserError: there are none.
    """
    path = Path(path).expanduser()
    if path.is_dir() and not is_snapshot(path):
        return read_variables(path)
    if not path.exists():
        raise UserError(f"initial={str(path)!r}: there is no such run or file of weights")
    if path.is_file():
        weights = read_weights(path)
        if any(name.startswith("params/") for name in weights):
            return unflatten_dict(weights, sep="/")
    return load_weights(model, path).variables


def match(given: Variables, own: Variables) -> Initial:
    """Match the variables `given` with those of a network, `own` (arrays or shapes).

    Parameters of another shape, such as a classifier for other classes, start afresh. Collections other than
    the parameters may be missing.

    Raises:
        UserError: a parameter is missing, or none fits.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"initial: must be variables such as {{'params': ...}}, not {type(given).__name__}")
    theirs = _flat(unstack(dict(given) if "params" in given else {"params": given}))
    ours = _flat(own)
    missing = [path for path in ours if path.startswith("params/") and path not in theirs]
    if missing:
        raise UserError(
            f"initial: lacks {_some(missing)}; it has {_some(list(theirs))}: they are of another network"
        )
    other = [path for path in ours if path in theirs and np.shape(theirs[path]) != np.shape(ours[path])]
    taken = {path: np.asarray(theirs[path]) for path in ours if path in theirs and path not in other}
    if not any(path.startswith("params/") for path in taken):
        raise UserError(f"initial: no array has the shape it has in this network, such as {_some(other)}")
    notes = [
        f"initial: {path} begins anew as {np.shape(ours[path])}; it is {np.shape(theirs[path])} there"
        for path in other
    ]
    if unused := [path for path in theirs if path not in ours]:
        notes.append(f"initial: {_some(unused)} {'is' if len(unused) == 1 else 'are'} not of this network")
    digest = hashlib.sha256()
    for path, array in sorted(taken.items()):
        digest.update(f"{path}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return Initial(taken, digest.hexdigest(), tuple(notes))


def _flat(variables: Any) -> dict[str, Any]:
    """Leaves by path, such as "params/conv1/kernel"."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]}


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
