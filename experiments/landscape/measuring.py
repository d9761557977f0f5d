"""What is measured of the runs: lines, planes, spectra, sharpness, and the ways between two minima."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.mesh import make_mesh
from cnnjax.network import Network, Variables
from cnnjax.ops.depth import unstack
from cnnjax.probes import (
    box_sharpness,
    curvature,
    grid,
    loss_surface,
    principal_plane,
    random_direction,
)
from cnnjax.probes.lesions import wrong
from cnnjax.probes.subject import Losses, cross_entropy
from cnnjax.runs import OpenRun, open_run

from ..runner import cached_npz, fixed_choice
from .settings import Preset

RADIUS = 1.0
"""Of lines and planes, in units of the filters' norms."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained network and the training images on which its loss is drawn."""

    run: OpenRun
    network: Network
    variables: Variables
    batch: tuple[jax.Array, jax.Array]
    calibration: jax.Array

    def surface(
        self, directions: Any, points: Any, reestimate: bool = False, losses: Losses = cross_entropy
    ) -> np.ndarray:
        """`loss_surface`, over all devices, with BatchNorm's averages as trained or estimated anew."""
        several = jax.device_count() > 1 or jax.default_backend() != "cpu"

        @jax.jit
        def surface(variables: Any, directions: Any, batch: Any, calibration: Any) -> jax.Array:
            return loss_surface(
                self.network,
                variables,
                batch,
                directions,
                points,
                calibration if reestimate else None,
                losses,
                at_once=8 if several else 1,  # a CPU core is busy with one
                mesh=make_mesh() if jax.device_count() > 1 else None,
            )

        return np.asarray(surface(self.variables, directions, self.batch, self.calibration))

    def directions(self, number: int, seed: int) -> list[Any]:
        """Filter-normalised random directions."""
        keys = jax.random.split(jax.random.key(seed), number)
        # Not as a program, which would take longer to build than all directions take.
        return [random_direction(self.network, self.variables, self.batch[0], key) for key in keys]

    def spectrum(self, steps: int, seed: int) -> dict[str, Any]:
        """Values and weights of the Hessian by Lanczos, and the number of parameters.

        Of the loss that is trained, with BatchNorm's statistics those of the images.
        """

        @jax.jit
        def spectrum(variables: Any, batch: Any, key: jax.Array) -> Any:
            loss = curvature.batch_loss(self.network, variables, batch)
            product, size = curvature.hessian_product(loss, variables["params"])
            return curvature.spectrum(product, size, key, steps, draws=1)

        found = spectrum(self.variables, self.batch, jax.random.key(seed))
        (values,), (weights,) = map(np.asarray, found)
        size = sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))
        return {"values": values, "weights": weights, "parameters": size}

    def sharpness(self) -> np.ndarray:
        """Keskar et al.'s, in percent, of the network in evaluation."""

        @jax.jit
        def sharpness(variables: Any, batch: Any) -> jax.Array:
            loss = curvature.batch_loss(self.network, variables, batch, "running")
            return box_sharpness(loss, variables["params"])

        return np.asarray(sharpness(self.variables, self.batch))


def subject(folder: Path, chosen: Preset, data: Dataset) -> Subject:
    """The trained network of a run, by block."""
    run = open_run(folder, data=data)
    arrays = run.task.data
    assert isinstance(arrays, Dataset)
    images, labels = (np.asarray(each) for each in (arrays.train_images, arrays.train_labels))
    some = fixed_choice(chosen.images + chosen.calibration, len(images))
    drawn, others = some[: chosen.images], some[chosen.images :]
    if not len(others):  # all images are drawn
        others = fixed_choice(chosen.calibration, len(images))
    prepared = run.task.normalize(jnp.asarray(images[drawn])), run.task.normalize(jnp.asarray(images[others]))
    variables = jax.tree.map(jnp.asarray, unstack(run.variables))
    return Subject(run, run.task.network, variables, (prepared[0], jnp.asarray(labels[drawn])), prepared[1])


@dataclasses.dataclass(frozen=True)
class Around:
    """The loss around one run's minimum; its arrays are kept in `file`.

    Attributes:
        run: its folder.
        file: of the arrays.
        seed: of the random directions.
        plane: whether to draw planes: one in random directions, and that of the trajectory.
        box: whether to measure the sharpness in a box.
    """

    run: Path
    file: Path
    seed: int
    plane: bool = False
    box: bool = False

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """`line` [point], `values` and `weights` [step] of the spectrum, the number of `parameters`.

        With `plane`: `plane` [point, point]; `path` [checkpoint, 2], `explained` [component], and
        `trajectory` [point, point] at the coordinates `axes` [2, point]. With `box`: `sharpness`.
        """
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        net = subject(self.run, chosen, data)
        axis = np.linspace(-RADIUS, RADIUS, chosen.points)
        directions = net.directions(2, self.seed)
        found: dict[str, Any] = {"line": net.surface(directions[:1], grid(axis))}
        found |= net.spectrum(chosen.lanczos, self.seed)
        if self.plane:
            found |= {"plane": net.surface(directions, grid(axis, axis)), **_trajectory(net, chosen)}
        if self.box:
            found["sharpness"] = net.sharpness()
        return found


def _trajectory(net: Subject, chosen: Preset) -> dict[str, Any]:
    """The plane of the run's checkpoints, with a margin, and its initial weights among them."""
    run = net.run
    initial = unstack(run.task.init(jax.random.key(run.config.seed), net.batch[0]))
    later = [unstack(run.at(step)) for step in run.steps]
    found = principal_plane([tree["params"] for tree in (initial, *later)])
    low, high = found.coordinates.min(0), found.coordinates.max(0)
    margin = 0.2 * (high - low)
    axes = np.linspace(low - margin, high + margin, chosen.plane_points).T
    return {
        "path": found.coordinates,
        "explained": found.explained,
        "axes": axes,
        "trajectory": net.surface(found.directions, grid(*axes), reestimate=True),
    }


@dataclasses.dataclass(frozen=True)
class Between:
    """The straight line and a trained curve between the minima of two runs, the `ends`."""

    ends: tuple[Path, Path]
    curve: Path
    file: Path

    def arrays(self, chosen: Preset, data: Dataset) -> dict[str, np.ndarray]:
        """Mean losses and errors [point] at the places `t`: `line_loss`, `curve_error` and so on."""
        return cached_npz(self.file, lambda: self._measure(chosen, data))

    def _measure(self, chosen: Preset, data: Dataset) -> dict[str, Any]:
        net = subject(self.ends[0], chosen, data)
        last, bend = (
            unstack(open_run(folder, data=data).variables)["params"] for folder in (self.ends[1], self.curve)
        )
        from_first = [
            jax.tree.map(lambda there, here: there - here, tree, net.variables["params"])
            for tree in (bend, last)
        ]
        t = np.linspace(0, 1, chosen.points // 2 + 1)
        points = {
            "line": np.stack([np.zeros_like(t), t], -1),
            "curve": np.stack([2 * t * (1 - t), t**2], -1),
        }
        kinds = {"loss": cross_entropy, "error": wrong}
        return {"t": t} | {
            f"{way}_{kind}": net.surface(from_first, where, reestimate=True, losses=losses)
            for way, where in points.items()
            for kind, losses in kinds.items()
        }
