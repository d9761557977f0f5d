"""Weights to start from, whether they compute the same, and how far training moves them."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from cnnjax.data import Dataset
from cnnjax.files import replacing
from cnnjax.initial import read_initial
from cnnjax.models import build, fold, grow, inserted_blocks, unstack
from cnnjax.network import Variables
from cnnjax.runs import open_run

from ..runner import cached_npz, fixed_choice
from .settings import STARTS, Preset, Start, scratch, weights


@dataclasses.dataclass(frozen=True)
class Growth:
    """The starts of one seed, in the experiment's folder `out`."""

    out: Path
    seed: int

    @property
    def file(self) -> Path:
        """The arrays of `agreement`."""
        return self.out / "starts" / f"agreement_seed{self.seed}.npz"

    def agreement(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """Write the weights of all starts; the largest difference of logits from the shallow net's, by name.

        The names are START_evaluation, START_evaluation_float64, both on test images, and START_training, in
        training mode on a batch of training images, and there from the shallow net with BatchNorm folded if
        it is folded in the start. `largest_logit` is that of the shallow net.
        """
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        run = open_run(self.out / scratch(chosen, False, self.seed), data=data)
        arrays = run.task.data
        assert isinstance(arrays, Dataset)
        some = fixed_choice(chosen.calibration, len(arrays.train_images))
        pixels = arrays.test_images[: chosen.images], arrays.train_images[np.asarray(some)]
        trained = jax.tree.map(np.asarray, unstack(run.variables))
        found: dict[str, Any] = {}
        same_kind: Any = None
        for dtype in ("float64", "float32"):
            with jax.enable_x64(dtype == "float64"):
                test, training = (run.task.normalize(jnp.asarray(each)).astype(dtype) for each in pixels)
                variables = jax.tree.map(functools.partial(jnp.asarray, dtype=dtype), trained)
                batch = training[: run.config.batch_size]
                shallow = network(chosen, STARTS[0], data.classes, dtype)
                logits = outputs(shallow, variables, test)
                for start in STARTS:
                    own = _start(start, variables, chosen, training, data.classes, dtype)
                    net = network(chosen, start, data.classes, dtype)
                    difference = jnp.abs(outputs(net, own, test) - logits).max()
                    if dtype == "float64":
                        found[f"{start.name}_evaluation_float64"] = np.asarray(difference)
                    else:
                        found[f"{start.name}_evaluation"] = np.asarray(difference)
                        in_training = outputs(net, own, batch, train=True)
                        if not start.deep:  # what the grown ones of its kind are compared with
                            same_kind = in_training
                        difference = jnp.abs(in_training - same_kind).max()
                        found[f"{start.name}_training"] = np.asarray(difference)
                        _write(weights(self.out, start, self.seed), own)
        return {**found, "largest_logit": np.asarray(jnp.abs(logits).max())}


def network(chosen: Preset, start: Start, classes: int, dtype: str = "float32") -> Any:
    """The net of a start."""
    return build(
        f"plain{chosen.depths[start.deep]}",
        num_classes=classes,
        width=chosen.width,
        norm="none" if start.folded else "batch",
        dtype=dtype,
    )


def check_depths(chosen: Preset) -> None:
    """Raise UserError unless there are nets of both depths, and the one can grow to the other."""
    inserted_blocks(network(chosen, STARTS[0], 10), network(chosen, STARTS[1], 10))


def outputs(net: Any, variables: Variables, images: jax.Array, train: bool = False) -> jax.Array:
    """Logits [batch, class]."""

    @jax.jit
    def logits(variables: Variables, images: jax.Array) -> jax.Array:
        if not train:
            return net.apply(variables, images, train=False)
        return net.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    return logits(variables, images)


def moved(
    out: Path, chosen: Preset, start: Start, seed: int, run: str
) -> tuple[dict[str, float], dict[str, float]]:
    """How far training moved each convolution's kernel, relative to its norm, by name in order of depth.

    First the inserted ones, for which it is the distance from Dirac, and then the others.
    """
    before = _by_path(read_initial(weights(out, start, seed), ""))
    after = _by_path(unstack(open_run(out / run).variables))
    found: tuple[dict[str, float], dict[str, float]] = {}, {}
    blocks = set(inserted_blocks(network(chosen, STARTS[0], 10), network(chosen, STARTS[1], 10)))
    for name in sorted(name for name, array in before.items() if array.ndim == 4):
        distance = np.linalg.norm(after[name] - before[name]) / np.linalg.norm(before[name])
        found[not (start.deep and name.split("/")[1] in blocks)][name] = float(distance)
    return found


def _start(
    start: Start,
    variables: Variables,
    chosen: Preset,
    images: jax.Array,
    classes: int,
    dtype: str,
) -> Variables:
    """The weights of a start, given the trained shallow net's and normalised training images."""
    shallow, deep = (network(chosen, STARTS[0], classes, dtype), network(chosen, start, classes, dtype))
    if start.folded:
        variables, shallow = fold(variables, shallow), shallow.clone(norm="none")
    if start.deep:
        variables = grow(variables, shallow, deep, images if start.calibrated else None)
    return variables


def _by_path(variables: Variables) -> dict[str, np.ndarray]:
    """Arrays by path, such as "params/stage1_block01/conv1/kernel"."""
    return {name: np.asarray(leaf) for name, leaf in flatten_dict(variables, sep="/").items()}


def _write(path: Path, variables: Variables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(save(_by_path(variables)))
